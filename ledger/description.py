"""How events and their answers look, for the API's description."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter

from ledger import cloudevents
from ledger.wire import SOURCES
from stripemeter.lib.openapi import component
from stripemeter.lib.text import METRIC_NAME, REFERENCE_CHARS_MAX

_REFERENCE = {"type": "string", "minLength": 1, "maxLength": REFERENCE_CHARS_MAX}
_QUANTITY = {
    "type": ["number", "string"],
    "minimum": 0,
    "pattern": r"^[0-9]+(\.[0-9]+)?$",
    "description": "At most 15 significant digits, 6 after the point; plain digits as text do too.",
}

_EVENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["tenantId", "metric", "customerRef", "quantity", "ts"],
    "properties": {
        "tenantId": {"type": "string", "minLength": 1, "description": "The key's own tenant."},
        "metric": {"type": "string", "pattern": f"^{METRIC_NAME.pattern}$"},
        "customerRef": _REFERENCE,
        "resourceId": _REFERENCE,
        "quantity": _QUANTITY,
        "ts": {
            "type": "string",
            "format": "date-time",
            "description": "RFC 3339 with an offset; at most one hour ahead, not before 2000.",
        },
        "meta": {"type": "object", "description": "At most 4,096 bytes of JSON."},
        "idempotencyKey": _REFERENCE,
        "source": {"type": "string", "enum": sorted(SOURCES)},
    },
}
_CLOUD_EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["specversion", "id", "source", "type", "subject", "time"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "minLength": 1, "description": "With `id`, the key."},
        "type": {"type": "string", "minLength": 1, "description": "The metric."},
        "subject": {"type": "string", "minLength": 1, "description": "The customer."},
        "time": {"type": "string", "format": "date-time"},
        "tenantid": {"type": "string"},
        "data": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "quantity": _QUANTITY,
                "value": _QUANTITY,
                "resourceId": _REFERENCE,
                "meta": {"type": "object"},
            },
        },
    },
}


def _batch(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "maxItems": 1_000, "items": of}


_BATCH_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["events"],
    "properties": {"events": _batch(component("UsageEvent", _EVENT_SCHEMA))},
}
_CLOUD_EVENT_REF = component("CloudEvent", _CLOUD_EVENT)
REQUEST: dict[str, Any] = {
    "application/json": component("UsageEventBatch", _BATCH_SCHEMA),
    cloudevents.SINGLE: _CLOUD_EVENT_REF,
    cloudevents.BATCH: _batch(_CLOUD_EVENT_REF),
}
_RESULT: dict[str, Any] = {
    "type": "object",
    "required": ["idempotencyKey", "status"],
    "properties": {
        "idempotencyKey": {"type": "string"},
        "status": {"enum": ["accepted", "duplicate", "conflict", "error"]},
        "error": {"type": "string"},
    },
}
_FAULT: dict[str, Any] = {
    "type": "object",
    "required": ["index", "error"],
    "properties": {"index": {"type": "integer"}, "error": {"type": "string"}},
}
_ANSWER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["accepted", "duplicates", "conflicts", "requestId", "results"],
    "properties": {
        "accepted": {"type": "integer"},
        "duplicates": {"type": "integer"},
        "conflicts": {"type": "integer"},
        "requestId": {"type": "string"},
        "results": {
            "type": "array",
            "items": component("IngestResult", _RESULT),
            "description": "In input order.",
        },
        "errors": {"type": "array", "items": _FAULT},
    },
}
ANSWER = component("IngestAnswer", _ANSWER_SCHEMA)
PARAMETERS = [
    OpenApiParameter(
        "Idempotency-Key",
        str,
        OpenApiParameter.HEADER,
        description="Names the one event, or `key:index` the events of a batch without keys.",
    ),
    OpenApiParameter(
        "Content-Encoding",
        str,
        OpenApiParameter.HEADER,
        enum=["gzip", "identity"],
        description="The body limit holds for the unpacked body too.",
    ),
]
_EVENT = {
    "tenantId": "acme",
    "metric": "api_calls",
    "customerRef": "cus_1",
    "quantity": 3,
    "ts": "2026-11-01T12:00:00Z",
    "idempotencyKey": "order-1",
    "meta": {"region": "eu"},
}
_CLOUD = {
    "specversion": "1.0",
    "id": "a-1",
    "source": "/orders",
    "type": "api_calls",
    "subject": "cus_1",
    "time": "2026-11-01T12:00:00Z",
    "data": {"quantity": 3},
}
EXAMPLES = [
    OpenApiExample(
        "One event", {"events": [_EVENT]}, request_only=True, media_type="application/json"
    ),
    OpenApiExample("CloudEvent", _CLOUD, request_only=True, media_type=cloudevents.SINGLE),
    OpenApiExample("CloudEvents", [_CLOUD], request_only=True, media_type=cloudevents.BATCH),
    OpenApiExample(
        "Stored",
        {
            "accepted": 1,
            "duplicates": 0,
            "conflicts": 0,
            "requestId": "req_01a202f292037197bfe0c0fffa66b887",
            "results": [{"idempotencyKey": "order-1", "status": "accepted"}],
        },
        response_only=True,
    ),
]
