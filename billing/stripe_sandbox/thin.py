"""Thin events of v2, and the asynchronous rejections that they report.

The pushed body of a thin event is its envelope; details come from
`GET /v2/core/events/{id}` (DOC 2026-05).
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from billing.stripe_sandbox.engine import Sandbox, World, new_id
from billing.stripe_sandbox.outbox import queue_delivery
from billing.stripe_sandbox.store import Doc

ERROR_REPORT = "v1.billing.meter.error_report_triggered"
NO_METER_FOUND = "v1.billing.meter.no_meter_found"

SAMPLES_MAX = 10
"""Samples per code; a report is not a full list (DOC)."""

VALIDATION_WINDOW_SECONDS = 10
"""Length of a report's window in Stripe's examples."""

MESSAGES = {
    "archived_meter": "The meter is archived.",
    "meter_event_customer_not_found": "The customer was not found.",
    "meter_event_invalid_value": "The value is not a number.",
    "meter_event_no_customer_defined": "The payload has no customer.",
    "meter_event_value_too_many_digits": "The value has more than 15 significant digits.",
    "no_meter": "There is no meter for the event name.",
    "timestamp_in_future": "The timestamp is more than 5 minutes in the future.",
    "timestamp_too_far_in_past": "The timestamp is more than 35 days in the past.",
}


def rfc3339(seconds: float) -> str:
    """Returns a moment as v2 writes it: UTC, milliseconds, "Z"."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def seconds_of(text: str) -> float:
    """Returns the seconds of an RFC 3339 moment; ValueError when it is none."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("no offset")
    return moment.timestamp()


def emit_thin(
    sandbox: Sandbox,
    world: World,
    event_type: str,
    *,
    data: dict[str, Any] | None = None,
    related: dict[str, str] | None = None,
    only_to: str | None = None,
) -> Doc:
    """Stores a thin event and queues its deliveries. Call inside a transaction."""
    event: Doc = {
        "id": new_id("evt_test" if not world.livemode else "evt"),
        "object": "v2.core.event",
        "type": event_type,
        "created": rfc3339(sandbox.clock.now()),
        "livemode": world.livemode,
        "_seconds": sandbox.clock.now(),
    }
    if related is not None:
        event["related_object"] = related
    if data is not None:
        event["data"] = data
    sandbox.store.put(world.name, "v2_event", event)
    for destination in sandbox.store.all(world.name, "event_destination"):
        if _takes(destination, event_type, only_to):
            queue_delivery(
                sandbox, world, "event_destination", destination["id"], "v2_event", event
            )
    return event


def _takes(destination: Doc, event_type: str, only_to: str | None) -> bool:
    """Tells whether a thin event goes to a destination: it asked for it, or is pinged."""
    if destination["status"] != "enabled" or destination["event_payload"] != "thin":
        return False
    if only_to is not None:
        return bool(destination["id"] == only_to)
    return any(pattern in ("*", event_type) for pattern in destination["enabled_events"])


def report_due_rejections(sandbox: Sandbox, world: World) -> None:
    """Emits one thin event per meter for the rejections whose time has come."""
    now = sandbox.clock.now()
    due = [doc for doc in sandbox.store.all(world.name, "rejection") if doc["due"] <= now]
    by_meter: dict[str, list[Doc]] = {}
    for doc in due:
        by_meter.setdefault(doc["meter"], []).append(doc)
        sandbox.store.delete(world.name, "rejection", doc["id"])
    for meter, rejections in by_meter.items():
        related = None
        if meter:
            url = f"/v1/billing/meters/{meter}"
            related = {"id": meter, "type": "billing.meter", "url": url}
        emit_thin(
            sandbox,
            world,
            ERROR_REPORT if meter else NO_METER_FOUND,
            data=_report(rejections),
            related=related,
        )


def _report(rejections: list[Doc]) -> dict[str, Any]:
    """Returns the data of an error report (shape: SDK 16, DOC)."""
    counts = Counter(doc["code"] for doc in rejections)
    start = min(doc["received"] for doc in rejections) // VALIDATION_WINDOW_SECONDS
    end = max(doc["received"] for doc in rejections) // VALIDATION_WINDOW_SECONDS + 1
    total = len(rejections)
    return {
        "developer_message_summary": (
            f"There {'is' if total == 1 else 'are'} {total} invalid event"
            f"{'' if total == 1 else 's'}"
        ),
        "reason": {
            "error_count": total,
            "error_types": [
                {
                    "code": code,
                    "error_count": count,
                    "sample_errors": [_sample(doc) for doc in rejections if doc["code"] == code][
                        :SAMPLES_MAX
                    ],
                }
                for code, count in counts.items()
            ],
        },
        "validation_start": rfc3339(start * VALIDATION_WINDOW_SECONDS),
        "validation_end": rfc3339(end * VALIDATION_WINDOW_SECONDS),
    }


def _sample(doc: Doc) -> dict[str, Any]:
    """Returns one sample; `request.identifier` is the call's idempotency key (SDK)."""
    return {
        "error_message": MESSAGES.get(doc["code"], doc["code"]),
        "request": {"identifier": doc["idempotency_key"] or doc["request"]},
    }
