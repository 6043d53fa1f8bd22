"""The API's description: OpenAPI 3.1 and, for people, Swagger UI from our own files."""

import threading
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator

from stripemeter.lib import strictjson
from stripemeter.lib.access import is_internal
from stripemeter.tenancy.recognition import authenticate_request

_lock = threading.Lock()
_described: list[bytes] = []

#: Routes that are plain views, so that drf-spectacular does not see them.
_PLAIN_PATHS: dict[str, Any] = {
    "/health": ("health", "The web process answers.", ["status"]),
    "/health/live": ("healthLive", "The web process lives.", ["status"]),
    "/health/ready": (
        "healthReady",
        "Every part works; 503 with the same body if not.",
        ["status"],
    ),
}


def _plain_operation(operation_id: str, summary: str, required: list[str]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": required,
        "properties": {"status": {"type": "string"}},
    }
    answer = {"description": summary, "content": {"application/json": {"schema": schema}}}
    return {
        "operationId": operation_id,
        "summary": summary,
        "tags": ["Health"],
        "security": [{}],
        "responses": {"200": answer},
    }


def add_plain_paths(result: dict[str, Any], generator: Any, **_: Any) -> dict[str, Any]:
    """drf-spectacular's hook: the health routes."""
    for path, described in _PLAIN_PATHS.items():
        operation = _plain_operation(*described)
        if path == "/health/ready":
            operation["responses"]["503"] = operation["responses"]["200"]
        result["paths"][path] = {"get": operation}
    return result


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
