"""The API's description: OpenAPI 3.1 and, for people, Swagger UI from our own files."""

import threading
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator

from stripemeter.apiexamples import REQUESTS
from stripemeter.apiplain import plain_paths
from stripemeter.apishapes import (
    ALSO_CSV,
    ANSWERS,
    FIELDS,
    MORE_BODIES,
    MORE_PARAMETERS,
    NULL_NUMBER,
    NUMBER,
)
from stripemeter.lib import strictjson
from stripemeter.lib.access import is_internal
from stripemeter.tenancy.recognition import authenticate_request

_lock = threading.Lock()
_described: list[bytes] = []

_METHODS = frozenset({"get", "post", "put", "patch", "delete"})
_DECIMALS = {
    "name": "decimals",
    "in": "query",
    "schema": {"enum": ["number", "string"], "default": "number"},
    "description": "`string` writes quantities as exact text; so does `X-Decimals: string`.",
}
_REQUEST_ID = {
    "name": "X-Request-Id",
    "in": "header",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,64}$"},
    "description": "Yours, to find the request in logs; one is made otherwise.",
}
_WIDGET_TOKEN = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token of `POST /v1/widget/sessions`, shown by the customer's browser.",
}


def complete_by_hand(result: dict[str, Any], generator: Any, **_: Any) -> dict[str, Any]:
    """drf-spectacular's hook: what serializers do not say, examples, and the plain routes."""
    components = result["components"]
    components["parameters"] = {"Decimals": _DECIMALS, "XRequestId": _REQUEST_ID}
    components.setdefault("securitySchemes", {})["WidgetToken"] = _WIDGET_TOKEN
    for name, schema in components["schemas"].items():
        fields = schema.get("properties", {})
        fields |= {field: found for field, found in FIELDS.get(name, {}).items() if field in fields}
        for field, found in fields.items():
            if found.get("oneOf") == [{}, {"type": "null"}]:  # any JSON: null fits both
                fields[field] = {}
            if found.get("format") == "double":  # an exact number: no float, text on request
                fields[field] = NULL_NUMBER if "null" in found["type"] else NUMBER
    for operations in result["paths"].values():
        for method, operation in operations.items():
            if method in _METHODS:
                _describe(operation, components["schemas"])
    result["paths"] |= plain_paths()
    return result


def _describe(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    name = operation["operationId"]
    answer = next(found for status, found in operation["responses"].items() if status[0] == "2")
    content = answer.get("content", {})
    if name in ANSWERS:
        content["application/json"]["schema"] = ANSWERS[name]
    if name in ALSO_CSV:
        content["text/csv"] = {"schema": {"type": "string"}}
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if name in REQUESTS and body is not None:
        body["example"] = REQUESTS[name]
        operation["requestBody"]["content"] |= MORE_BODIES.get(name, {})
    parameters = operation.setdefault("parameters", [])
    parameters += MORE_PARAMETERS.get(name, [])
    parameters.append({"$ref": "#/components/parameters/XRequestId"})
    if _has_quantity(content.get("application/json", {}).get("schema"), schemas, set()):
        parameters.append({"$ref": "#/components/parameters/Decimals"})


def _has_quantity(schema: Any, schemas: dict[str, Any], seen: set[str]) -> bool:
    """Whether an exact number, which can be asked for as text, stands anywhere in ``schema``."""
    if isinstance(schema, list):
        return any(_has_quantity(each, schemas, seen) for each in schema)
    if not isinstance(schema, dict):
        return False
    kind = schema.get("type")
    if isinstance(kind, list) and {"number", "string"} <= set(kind):
        return True
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    if name and name not in seen:
        return _has_quantity(schemas.get(name), schemas, seen | {name})
    return any(_has_quantity(each, schemas, seen) for each in schema.values())


def description() -> bytes:
    """The OpenAPI document as JSON, made once a process."""
    with _lock:
        if not _described:
            generator = SchemaGenerator()  # type: ignore[no-untyped-call]
            document = generator.get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
            _described.append(strictjson.dumps(document))
        return _described[0]


@require_safe
def openapi(request: HttpRequest) -> HttpResponse:
    """The document, for any valid key; in production not for strangers."""
    if not is_internal(request.META):
        authenticate_request(request)
    return HttpResponse(description(), content_type="application/vnd.oai.openapi+json")


def _require_insider(request: HttpRequest) -> None:
    user = getattr(request, "user", None)
    if not is_internal(request.META) and not getattr(user, "is_staff", False):
        raise Http404


@require_safe
def docs_json(request: HttpRequest) -> HttpResponse:
    """The document for the page, for operators who are logged in."""
    _require_insider(request)
    return HttpResponse(description(), content_type="application/json")


@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    """Swagger UI."""
    _require_insider(request)
    return render(request, "docs/swagger.html", {"version": settings.VERSION})
