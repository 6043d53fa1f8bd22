"""`/v2/billing`: meter events, sessions, the stream, adjustments (JSON)."""

from __future__ import annotations

from typing import Any

from billing.stripe_sandbox.engine import Call, Sandbox, new_id
from billing.stripe_sandbox.errors import Failure
from billing.stripe_sandbox.metering import (
    Reading,
    Refusal,
    accept,
    read_event,
    reject_later,
)
from billing.stripe_sandbox.resources.meter_events import cancel_event
from billing.stripe_sandbox.routing import route
from billing.stripe_sandbox.store import Doc
from billing.stripe_sandbox.thin import rfc3339, seconds_of

SESSION_SECONDS = 15 * 60
STREAM_EVENTS_MAX = 100

SESSION_WORLD = "sessions"
"""Where tokens are kept: they name their account themselves, as keys do."""

ASYNC_CODES = {
    "payload_invalid_value": "meter_event_invalid_value",
    "payload_no_customer_defined": "meter_event_no_customer_defined",
    "payload_no_value_defined": "meter_event_invalid_value",
    "resource_missing": "meter_event_customer_not_found",
}
"""The asynchronous names of what the direct call refuses at once."""


def _failure(refusal: Refusal) -> Failure:
    """Words a refusal as v2 does: by code."""
    code = "meter_event_customer_not_found" if refusal.code == "resource_missing" else refusal.code
    return Failure(refusal.message, code=code, version=2)


def _read(sandbox: Sandbox, call: Call, event: dict[str, Any]) -> Reading:
    """Returns a v2 event checked like a v1 one; its timestamp is RFC 3339."""
    moment = event.get("timestamp")
    try:
        timestamp = int(seconds_of(moment)) if moment else None
    except ValueError:
        raise Refusal("invalid_fields", f"Invalid timestamp: {moment}") from None
    reading = read_event(
        sandbox,
        call.world,
        event_name=event["event_name"],
        payload=event["payload"],
        identifier=event.get("identifier"),
        timestamp=timestamp,
    )
    wants_integer = sandbox.settings["v2_values"] == "positive_integer"
    if wants_integer and not reading.value.isdigit():
        raise Refusal("payload_invalid_value", "The value must be a positive integer.", "payload")
    return reading


@route("POST", "/v2/billing/meter_events")
def create(sandbox: Sandbox, call: Call) -> Doc:
    """Takes one meter event, checked at once."""
    if len(str(call.params.get("identifier", ""))) > 100:
        raise Failure("identifier must be at most 100 characters", code="invalid_fields", version=2)
    try:
        reading = _read(sandbox, call, call.params)
    except Refusal as refusal:
        raise _failure(refusal) from refusal
    accept(sandbox, call, reading)
    return {
        "object": "v2.billing.meter_event",
        "created": rfc3339(sandbox.clock.now()),
        "event_name": call.params["event_name"],
        "identifier": reading.identifier,
        "livemode": call.world.livemode,
        "payload": reading.payload,
        "timestamp": rfc3339(reading.timestamp),
    }


@route("POST", "/v2/billing/meter_event_session")
def session(sandbox: Sandbox, call: Call) -> Doc:
    """Gives a token for the stream, good for 15 minutes."""
    now = sandbox.clock.now()
    token = new_id("token_sandbox", 32)
    sandbox.store.put(
        SESSION_WORLD,
        "meter_session",
        {"id": token, "world": call.world.name, "expires": now + SESSION_SECONDS},
    )
    return {
        "id": new_id("mes_test" if not call.world.livemode else "mes"),
        "object": "v2.billing.meter_event_session",
        "authentication_token": token,
        "created": rfc3339(now),
        "expires_at": rfc3339(now + SESSION_SECONDS),
        "livemode": call.world.livemode,
    }


@route("POST", "/v2/billing/meter_event_stream")
def stream(sandbox: Sandbox, call: Call) -> Doc:
    """Takes up to 100 events; what is wrong with them is told by thin events later."""
    events = call.params["events"]
    if len(events) > STREAM_EVENTS_MAX:
        raise Failure(
            f"At most {STREAM_EVENTS_MAX} events per request.", code="invalid_fields", version=2
        )
    for event in events:
        try:
            accept(sandbox, call, _read(sandbox, call, event))
        except Refusal as refusal:
            if refusal.code != "duplicate_meter_event":
                code = ASYNC_CODES.get(refusal.code, refusal.code)
                reject_later(sandbox, call, event, code)
    return {}


@route("POST", "/v2/billing/meter_event_adjustments")
def adjust(sandbox: Sandbox, call: Call) -> Doc:
    """Cancels one meter event, within 24 hours of receiving it."""
    identifier = call.params["cancel"]["identifier"]
    try:
        cancel_event(sandbox, call, call.world, call.params["event_name"], identifier)
    except Refusal as refusal:
        raise _failure(refusal) from refusal
    return {
        "id": new_id("mtr_event_adj"),
        "object": "v2.billing.meter_event_adjustment",
        "cancel": {"identifier": identifier},
        "created": rfc3339(sandbox.clock.now()),
        "event_name": call.params["event_name"],
        "livemode": call.world.livemode,
        "status": "pending",
        "type": "cancel",
    }
