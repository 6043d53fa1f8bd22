"""What every operation of the API's description shares: problems, headers, exact numbers.

Views describe their own input and output with ``@extend_schema``; nothing of this page has
to be repeated there. msgspec structs are described through `struct_schema`.
"""

from typing import Any

import msgspec
from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema

from stripemeter.lib.drf import StrictSerializer

REF = "#/components/schemas/{name}"
PROBLEM = "application/problem+json"
METHODS = ("get", "post", "put", "patch", "delete", "head", "options")

_struct_components: dict[str, Any] = {}

_PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457 problem details. `code` is stable; `detail` says what to do.",
    "required": ["type", "title", "status", "code", "detail", "requestId"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:stripemeter:problem:missing_scope"]},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "code": {"type": "string", "examples": ["missing_scope"]},
        "detail": {"type": "string"},
        "requestId": {"type": "string"},
        "error": {"type": "string", "description": "`title` again, for older callers."},
        "message": {"type": "string", "description": "`detail` again, for older callers."},
        "errors": {"type": "array", "items": {"$ref": REF.format(name="ProblemItem")}},
    },
}
_PROBLEM_ITEM: dict[str, Any] = {
    "type": "object",
    "required": ["code", "detail"],
    "properties": {
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "error": {"type": "string"},
        "field": {"type": "string"},
        "index": {"type": "integer", "description": "Position in a list that was sent."},
    },
}
_RESPONSES: dict[str, str] = {
    "400": "The request is malformed; `errors` names the fields.",
    "401": "No credential, or not a valid one.",
    "403": "The key lacks the scope, or the request names another tenant.",
    "404": "No such object in this tenant.",
    "405": "The route does not take this method; `Allow` names those it takes.",
    "406": "The route answers JSON only.",
    "409": "The state of the object does not allow it.",
    "412": "`If-Match` does not name the version that there is.",
    "413": "The body is over the documented limit.",
    "414": "The query string is over the documented limit.",
    "415": "Not UTF-8 JSON, or an unknown `Content-Encoding`.",
    "422": "The request is well-formed and cannot be carried out.",
    "429": "Over the rate limit; `Retry-After` says when to come back.",
    "431": "The headers are over the documented limit.",
    "500": "A defect of ours; quote `requestId`.",
    "503": "A dependency is down or the outcome is unknown: retry with the same keys.",
}
_ALWAYS = ("400", "401", "403", "405", "406", "414", "429", "431", "500", "503")
_WITH_BODY = ("413", "415")


class ExactNumberFields(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """Quantities are JSON numbers; ``?decimals=string`` gives strings in answers."""

    target_class = "stripemeter.lib.drf.ExactDecimalField"

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        """A number, or the same as text."""
        return {"type": ["number", "string"], "pattern": r"^-?[0-9]+(\.[0-9]+)?$"}


class InstantFields(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """RFC 3339 instants."""

    target_class = "stripemeter.lib.drf.InstantField"

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        """Text in date-time format."""
        return {"type": "string", "format": "date-time"}


class DayFields(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """Calendar dates."""

    target_class = "stripemeter.lib.drf.DayField"

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        """Text in date format."""
        return {"type": "string", "format": "date"}


class Schema(AutoSchema):
    """Names nested serializers after their view, and says that unknown fields are refused."""

    def get_serializer_name(self, serializer: Any, direction: str) -> str:
        """``RevokeApiKeyView.Input`` is RevokeApiKeyInput: every view may have an Input."""
        outer, _, inner = type(serializer).__qualname__.rpartition(".")
        return outer.replace(".", "").removesuffix("View") + inner

    def get_tags(self) -> list[str]:
        """The first word after the version: events, usage, mappings."""
        words = [word for word in self.path.strip("/").split("/") if word[:1] != "{"]
        return [words[1] if words[0] == "v1" and len(words) > 1 else words[0]]

    def _map_basic_serializer(self, serializer: Any, direction: str) -> Any:
        schema = super()._map_basic_serializer(serializer, direction)  # type: ignore[no-untyped-call]
        is_strict = isinstance(serializer, StrictSerializer) or (
            isinstance(serializer, type) and issubclass(serializer, StrictSerializer)
        )
        if is_strict and direction == "request":
            schema["additionalProperties"] = False
        return schema


def struct_schema(struct: Any) -> dict[str, Any]:
    """The schema of a msgspec struct, for ``request=`` and ``responses=`` of extend_schema."""
    (schema,), components = msgspec.json.schema_components([struct], ref_template=REF)
    _struct_components.update(components)
    return dict(schema)


def component(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Put ``schema`` among the document's components; a reference to it."""
    _struct_components[name] = schema
    return {"$ref": REF.format(name=name)}


def _problem_response(status: str) -> dict[str, Any]:
    return {"$ref": f"#/components/responses/Problem{status}"}


def _component_responses() -> dict[str, Any]:
    content = {PROBLEM: {"schema": {"$ref": REF.format(name="Problem")}}}
    found: dict[str, Any] = {}
    for status, text in _RESPONSES.items():
        headers: dict[str, Any] = {"X-Request-Id": {"$ref": "#/components/headers/XRequestId"}}
        if status in {"429", "503"}:
            headers["Retry-After"] = {"schema": {"type": "integer"}, "description": "Seconds."}
        if status == "405":
            headers["Allow"] = {"schema": {"type": "string"}}
        if status == "401":
            headers["WWW-Authenticate"] = {"schema": {"type": "string"}}
        found[f"Problem{status}"] = {"description": text, "headers": headers, "content": content}
    return found


def _statuses(path: str, method: str, operation: dict[str, Any]) -> list[str]:
    wanted = list(_ALWAYS)
    has_body = "requestBody" in operation
    if "{" in path or has_body or method == "delete":
        wanted += ["404", "409"]
    if has_body:
        wanted += [*_WITH_BODY, "422"]
    if any(given.get("name") == "If-Match" for given in operation.get("parameters", ())):
        wanted.append("412")
    return wanted


def complete(result: dict[str, Any], generator: Any, **_: Any) -> dict[str, Any]:
    """drf-spectacular's last step: add to every operation what all of them share."""
    components = result.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas |= {"Problem": _PROBLEM_SCHEMA, "ProblemItem": _PROBLEM_ITEM, **_struct_components}
    components["responses"] = _component_responses()
    components["headers"] = {
        "XRequestId": {
            "description": "Ties the answer to log lines; yours if you sent a plain one.",
            "schema": {"type": "string"},
        }
    }
    for path, operations in result.get("paths", {}).items():
        for method, operation in operations.items():
            if method not in METHODS:
                continue
            responses = operation.setdefault("responses", {})
            for status, response in responses.items():
                if status[0] == "2" and "$ref" not in response:
                    response["description"] = response.get("description") or "Done."
                    response.setdefault("headers", {})["X-Request-Id"] = {
                        "$ref": "#/components/headers/XRequestId"
                    }
            for status in _statuses(path, method, operation):
                responses.setdefault(status, _problem_response(status))
            operation["responses"] = dict(sorted(responses.items()))
    return result
