"""`/v1/billing/meter_events` and `/v1/billing/meter_event_adjustments`."""

from __future__ import annotations

from billing.stripe_sandbox.engine import Call, Sandbox, World
from billing.stripe_sandbox.gate import MEMORY_SECONDS
from billing.stripe_sandbox.metering import (
    Reading,
    Refusal,
    accept,
    active_meter,
    journal,
    read_event,
    v1_failure,
)
from billing.stripe_sandbox.routing import route
from billing.stripe_sandbox.store import Doc


@route("POST", "/v1/billing/meter_events")
def create(sandbox: Sandbox, call: Call) -> Doc:
    """Takes one meter event. 200 means accepted; what counts is told by summaries."""
    params = call.params
    try:
        reading = read_event(
            sandbox,
            call.world,
            event_name=params["event_name"],
            payload=params["payload"],
            identifier=params.get("identifier"),
            timestamp=params.get("timestamp"),
        )
    except Refusal as refusal:
        sandbox.stats[f"meter_events.refused.{refusal.code}"] += 1
        raise v1_failure(refusal) from refusal
    accept(sandbox, call, reading)
    return {
        "object": "billing.meter_event",
        "created": sandbox.clock.seconds(),
        "event_name": params["event_name"],
        "identifier": reading.identifier,
        "livemode": call.world.livemode,
        "payload": reading.payload,
        "timestamp": reading.timestamp,
    }


def cancel_event(
    sandbox: Sandbox, call: Call, world: World, event_name: str, identifier: str
) -> None:
    """Takes an accepted event out of the sums, within 24 hours of receiving it.

    Raises `Refusal` for an identifier that is unknown or too old (unverified: the
    documentation names no error).
    """
    meter = active_meter(sandbox, world, event_name)
    if meter is None:
        raise Refusal(
            "no_meter", f'No active meter found for event name "{event_name}".', "event_name"
        )
    row = sandbox.store.db.execute(
        "SELECT * FROM meter_events WHERE world = ? AND meter = ? AND identifier = ? "
        "ORDER BY seq DESC LIMIT 1",
        (world.name, meter["id"], identifier),
    ).fetchone()
    if row is None or row["received"] <= sandbox.clock.now() - MEMORY_SECONDS:
        raise Refusal(
            "invalid_cancel_configuration",
            f"No event found with identifier {identifier} within the past 24 hours.",
            "cancel[identifier]",
        )
    if row["state"] == "cancelled":
        return
    sandbox.store.db.execute(
        "UPDATE meter_events SET state = 'cancelled' WHERE seq = ?", (row["seq"],)
    )
    reading = Reading(
        meter=meter,
        customer=row["customer"],
        value=row["value"],
        identifier=identifier,
        timestamp=row["ts"],
        payload={},
    )
    journal(sandbox, call, reading, outcome="cancelled", value=row["value"])


@route("POST", "/v1/billing/meter_event_adjustments")
def adjust(sandbox: Sandbox, call: Call) -> Doc:
    """Cancels one meter event."""
    identifier = (call.params.get("cancel") or {}).get("identifier", "")
    try:
        if not identifier:
            raise Refusal(
                "invalid_cancel_configuration",
                "Missing required param: cancel[identifier].",
                "cancel[identifier]",
            )
        cancel_event(sandbox, call, call.world, call.params["event_name"], identifier)
    except Refusal as refusal:
        raise v1_failure(refusal) from refusal
    return {
        "object": "billing.meter_event_adjustment",
        "cancel": {"identifier": identifier},
        "event_name": call.params["event_name"],
        "livemode": call.world.livemode,
        "status": "pending",
        "type": "cancel",
    }
