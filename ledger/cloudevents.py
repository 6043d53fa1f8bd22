"""CloudEvents 1.0 in JSON, read as usage events.

``type`` is the metric, ``subject`` the customer, ``time`` the event time and
``source`` + ``id`` (together unique by the specification) the idempotency key; ``data``
holds ``quantity`` (or ``value``; 1 if absent), ``resourceId`` and ``meta``.
Specification: CloudEvents 1.0.2, sections 3.1 and JSON format.
"""

from typing import Any

from stripemeter.lib.errors import FieldError, InvalidRequest

SINGLE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
MEDIA_TYPES = frozenset({SINGLE, BATCH})
_DATA_FIELDS = ("quantity", "value", "resourceId", "meta")


def to_native(document: Any, *, media_type: str, tenant_key: str) -> dict[str, Any]:
    """The native document of one CloudEvent or a batch of them. Raises `InvalidRequest`."""
    events = document if media_type == BATCH else [document]
    if not isinstance(events, list):
        raise InvalidRequest("A CloudEvents batch is a JSON array.")
    return {"events": [_event(event, index, tenant_key) for index, event in enumerate(events)]}


def _event(event: Any, index: int, tenant_key: str) -> dict[str, Any]:
    if not isinstance(event, dict):
        raise _fault("wrong_type", "must be an object", "", index)
    if event.get("specversion") != "1.0":
        raise _fault("invalid_choice", "specversion must be 1.0", "specversion", index)
    for name in ("id", "source", "type", "subject", "time"):
        if not isinstance(event.get(name), str) or not event[name]:
            raise _fault("required", f"{name} is required", name, index)
    data = event.get("data", {})
    if not isinstance(data, dict) or "data_base64" in event:
        raise _fault("wrong_type", "data must be a JSON object", "data", index)
    unknown = data.keys() - set(_DATA_FIELDS)
    if unknown or ("quantity" in data and "value" in data):
        name = str(min(unknown)) if unknown else "value"
        raise _fault("unknown_field", f"data.{name} is not known", f"data.{name}", index)
    native: dict[str, Any] = {
        "tenantId": event.get("tenantid", tenant_key),
        "metric": event["type"],
        "customerRef": event["subject"],
        "ts": event["time"],
        "quantity": data.get("quantity", data.get("value", 1)),
        "idempotencyKey": f"{event['source']}#{event['id']}",
    }
    if data.get("resourceId") is not None:
        native["resourceId"] = data["resourceId"]
    if data.get("meta") is not None:
        native["meta"] = data["meta"]
    return native


def _fault(code: str, detail: str, name: str, index: int) -> InvalidRequest:
    return InvalidRequest(
        f"events[{index}]: {detail}", errors=[FieldError(code, detail, name, index)]
    )
