"""An event as it will be sent: made once, then immutable.

Key, time and quantity are fixed when the caller hands the event over, and so are the very
bytes. Whatever is retried, spooled or sent again later is therefore the same fact.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NotRequired, TypedDict

from stripemeter.sdk.encoding import (
    Quantity,
    json_text,
    parse_json,
    quantity_text,
    timestamp_text,
)
from stripemeter.sdk.errors import InvalidEvent
from stripemeter.sdk.ids import new_key

METRIC_CHARS_MAX = 100
TEXT_CHARS_MAX = 255
EVENT_BYTES_MAX = 1_000_000

_NAMES = {
    "metric": "metric",
    "customer_ref": "customer_ref",
    "customerRef": "customer_ref",
    "quantity": "quantity",
    "resource_id": "resource_id",
    "resourceId": "resource_id",
    "ts": "ts",
    "meta": "meta",
    "idempotency_key": "idempotency_key",
    "idempotencyKey": "idempotency_key",
}


class EventInput(TypedDict):
    """One event of `track_batch`, in Python spelling (the wire's camelCase is taken too)."""

    metric: str
    customer_ref: NotRequired[str | None]
    quantity: NotRequired[Quantity]
    resource_id: NotRequired[str | None]
    ts: NotRequired[datetime | str | None]
    meta: NotRequired[Mapping[str, Any] | None]
    idempotency_key: NotRequired[str | None]


@dataclass(frozen=True, slots=True)
class Event:
    """An event ready to send: its idempotency key and its JSON text in UTF-8."""

    idempotency_key: str
    payload: bytes

    @property
    def data(self) -> dict[str, Any]:
        """The event's wire fields, decoded (numbers with a fraction as Decimal)."""
        fields = parse_json(self.payload)
        return fields if isinstance(fields, dict) else {}

    @classmethod
    def from_payload(cls, payload: bytes) -> "Event | None":
        """Rebuild an event from its own bytes; None when they are not an event."""
        fields = parse_json(payload)
        key = fields.get("idempotencyKey") if isinstance(fields, dict) else None
        return cls(key, payload) if isinstance(key, str) else None


def make_event(
    *,
    tenant_id: str,
    metric: str,
    customer_ref: str | None,
    quantity: Quantity = 1,
    resource_id: str | None = None,
    ts: datetime | str | None = None,
    meta: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> Event:
    """Check and encode one event; raises `InvalidEvent` and leaves nothing behind.

    The time is read once, here, at microsecond precision; the key is a UUIDv7 unless given.
    """
    if customer_ref is None:
        raise InvalidEvent("customer_ref is missing and the client has no customer_id")
    key = new_key() if idempotency_key is None else _text("idempotency_key", idempotency_key)
    moment = timestamp_text(ts, now=datetime.now(UTC))
    parts = [
        f'"tenantId":{json.dumps(tenant_id)}',
        f'"metric":{json.dumps(_text("metric", metric, METRIC_CHARS_MAX))}',
        f'"customerRef":{json.dumps(_text("customer_ref", customer_ref))}',
        f'"quantity":{quantity_text(quantity)}',
        f'"ts":"{moment}"',
        f'"idempotencyKey":{json.dumps(key)}',
        '"source":"sdk"',
    ]
    if resource_id is not None:
        parts.append(f'"resourceId":{json.dumps(_text("resource_id", resource_id))}')
    if meta is not None:
        if not isinstance(meta, Mapping):
            raise InvalidEvent("meta must be a mapping")
        parts.append(f'"meta":{_meta_text(meta)}')
    payload = ("{" + ",".join(parts) + "}").encode()
    if len(payload) > EVENT_BYTES_MAX:
        raise InvalidEvent(f"the event is larger than {EVENT_BYTES_MAX} bytes")
    return Event(key, payload)


def event_of(item: "Event | EventInput | Mapping[str, Any]", **defaults: Any) -> Event:
    """Turn one item of `track_batch` into an event; an `Event` passes as it is."""
    if isinstance(item, Event):
        return item
    if not isinstance(item, Mapping):
        raise InvalidEvent(f"an event must be a mapping, not {type(item).__name__}")
    fields: dict[str, Any] = dict(defaults)
    for name, value in item.items():
        known = _NAMES.get(name)
        if known is None:
            raise InvalidEvent(f"unknown event field {name!r}")
        if known != "customer_ref" or value is not None:
            fields[known] = value
    if "metric" not in fields:
        raise InvalidEvent("metric is missing")
    return make_event(**fields)


def _text(name: str, value: Any, longest: int = TEXT_CHARS_MAX) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidEvent(f"{name} must be a non-empty string")
    if len(value) > longest:
        raise InvalidEvent(f"{name} is longer than {longest} characters")
    return value


def _meta_text(meta: Mapping[str, Any]) -> str:
    try:
        text = json_text(meta)
        text.encode()
    except InvalidEvent:
        raise
    except ValueError as error:
        raise InvalidEvent(f"meta cannot be written as JSON: {error}") from error
    return text
