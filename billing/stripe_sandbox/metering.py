"""Meter events themselves: acceptance rules, the journal, aggregation.

Values are kept as text and added up as Decimal; only the answers of
`event_summaries` turn them into the JSON number that Stripe sends.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from billing.stripe_sandbox.engine import Call, Sandbox, World, new_id
from billing.stripe_sandbox.errors import Failure
from billing.stripe_sandbox.gate import MEMORY_SECONDS
from billing.stripe_sandbox.store import Doc

PAST_SECONDS_MAX = 35 * 86_400
FUTURE_SECONDS_MAX = 5 * 60
SIGNIFICANT_DIGITS_MAX = 15
PAYLOAD_VALUE_CHARS_MAX = 100

NUMBER = re.compile(r"^[+-]?(\d+(\.\d*)?|\.\d+)$")

WINDOW_SECONDS = {"hour": 3_600, "day": 86_400}


@dataclass(frozen=True, slots=True)
class Reading:
    """A meter event that passed the synchronous checks."""

    meter: Doc
    customer: str
    value: str
    identifier: str
    timestamp: int
    payload: dict[str, str]
    rejection: str = ""
    """Code of the asynchronous rejection that awaits it, empty when it will count."""


class Refusal(Exception):
    """A wrong meter event, before it is known whether v1 or v2 words it."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


def active_meter(sandbox: Sandbox, world: World, event_name: str) -> Doc | None:
    """Returns the active meter of an event name, or None."""
    for meter in sandbox.store.all(world.name, "meter"):
        if meter["event_name"] == event_name and meter["status"] == "active":
            return meter
    return None


def read_event(
    sandbox: Sandbox,
    world: World,
    *,
    event_name: str,
    payload: dict[str, Any],
    identifier: str | None,
    timestamp: int | None,
) -> Reading:
    """Returns the event if Stripe would take it, else raises `Refusal`."""
    meter = active_meter(sandbox, world, event_name)
    if meter is None:
        archived = any(
            doc["event_name"] == event_name for doc in sandbox.store.all(world.name, "meter")
        )
        raise Refusal(
            "archived_meter" if archived else "no_meter",
            f'No active meter found for event name "{event_name}".',  # OBS
            "event_name",
        )
    values = {key: str(value) for key, value in payload.items()}
    for key, value in values.items():
        if len(value) > PAYLOAD_VALUE_CHARS_MAX:
            raise Refusal(
                "payload_invalid_value",
                f"Invalid string: {value[:8]}...; must be at most "
                f"{PAYLOAD_VALUE_CHARS_MAX} characters",
                f"payload[{key}]",
            )
    rejection = ""
    customer, unknown = _customer(sandbox, world, meter, values)
    if unknown:
        rejection = "meter_event_customer_not_found"
    value = _value(meter, values)
    moment, code = _timestamp(sandbox, world, customer, timestamp)
    name = identifier or str(uuid.uuid4())
    _refuse_known_identifier(sandbox, world, name)
    return Reading(
        meter=meter,
        customer=customer,
        value=value,
        identifier=name,
        timestamp=moment,
        payload=values,
        rejection=rejection or code,
    )


def _customer(
    sandbox: Sandbox, world: World, meter: Doc, values: dict[str, str]
) -> tuple[str, bool]:
    """Returns (customer id, True when it is unknown and that is told later)."""
    key = meter["customer_mapping"]["event_payload_key"]
    customer = values.get(key, "")
    if not customer:
        raise Refusal(
            "payload_no_customer_defined",
            f"The event payload must contain the customer mapping key '{key}'.",
            "payload",
        )
    if sandbox.store.get(world.name, "customer", customer):
        return customer, False
    if sandbox.settings["unknown_customer"] == "sync":
        raise Refusal("resource_missing", f"No such customer: '{customer}'", f"payload[{key}]")
    return customer, True


def _value(meter: Doc, values: dict[str, str]) -> str:
    """Returns the value as plain decimal text; `count` meters ignore what is sent."""
    key = meter["value_settings"]["event_payload_key"]
    if meter["default_aggregation"]["formula"] == "count":
        return "1"
    if key not in values or values[key] == "":
        raise Refusal(
            "payload_no_value_defined",
            f"The event payload must contain the value key '{key}'.",
            "payload",
        )
    text = values[key]
    if not NUMBER.match(text):
        raise Refusal(
            "payload_invalid_value", f"Invalid value for '{key}': {text}", f"payload[{key}]"
        )
    # Counted as written without leading zeros; whether Stripe strips trailing ones is unverified.
    if len(text.lstrip("+-").replace(".", "").lstrip("0")) > SIGNIFICANT_DIGITS_MAX:
        raise Refusal(
            "meter_event_value_too_many_digits",
            f"The value for '{key}' has more than {SIGNIFICANT_DIGITS_MAX} significant digits.",
            f"payload[{key}]",
        )
    return format(Decimal(text), "f")


def _timestamp(
    sandbox: Sandbox, world: World, customer: str, timestamp: int | None
) -> tuple[int, str]:
    """Returns (seconds, code of a rejection that is told later or "")."""
    now = sandbox.time_for(world, customer)
    if timestamp is None:
        return now, ""
    oldest, newest = now - PAST_SECONDS_MAX, now + FUTURE_SECONDS_MAX
    refusal = None
    if timestamp < oldest:
        refusal = Refusal(
            "timestamp_too_far_in_past",
            "The event timestamp cannot be more than 35 days in past. Expected a timestamp "
            f"greater than or equal to {oldest}.",  # OBS
            "timestamp",
        )
    elif timestamp > newest:
        refusal = Refusal(
            "timestamp_in_future",
            "The event timestamp cannot be more than 5 minutes in the future. Expected a "
            f"timestamp less than or equal to {newest}.",
            "timestamp",
        )
    if refusal is None:
        return timestamp, ""
    if sandbox.settings["bad_timestamp"] == "sync":
        raise refusal
    return timestamp, refusal.code


def _refuse_known_identifier(sandbox: Sandbox, world: World, identifier: str) -> None:
    """Raises for an identifier of the last 24 hours; scope: account and mode (unverified)."""
    row = sandbox.store.db.execute(
        "SELECT 1 FROM meter_events WHERE world = ? AND identifier = ? AND received > ? LIMIT 1",
        (world.name, identifier, sandbox.clock.now() - MEMORY_SECONDS),
    ).fetchone()
    if row is not None:
        raise Refusal(
            "duplicate_meter_event", f"An event already exists with identifier {identifier}."
        )


def v1_failure(refusal: Refusal) -> Failure:
    """Words a refusal as v1 does: by message; v1 sends no code for these (OBS, duplicate)."""
    return Failure(
        refusal.message,
        code="resource_missing" if refusal.code == "resource_missing" else None,
        param=refusal.param,
        headers={"Stripe-Should-Retry": "false"},
    )


def accept(sandbox: Sandbox, call: Call, reading: Reading) -> None:
    """Stores an accepted event as the call's script wants it: once, never, twice."""
    rejected = call.effect("async_reject")
    code = reading.rejection
    if rejected is not None:
        code = str(rejected.options.get("code", "meter_event_customer_not_found"))
    if call.effect("lose") is not None:
        record(sandbox, call, reading, state="lost")
    elif code:
        record(sandbox, call, reading, state="rejected")
        _schedule_rejection(sandbox, call, reading, code)
    else:
        record(sandbox, call, reading, state="applied")
        twice = call.effect("duplicate")
        for _ in range(int(twice.options.get("times", 1)) if twice else 0):
            record(sandbox, call, reading, state="applied", outcome="duplicated")
    foreign = call.effect("foreign_write")
    if foreign is not None:
        value = str(foreign.options.get("value", "1"))
        record(sandbox, call, reading, state="applied", outcome="foreign", value=value)


def record(
    sandbox: Sandbox,
    call: Call,
    reading: Reading,
    *,
    state: str,
    outcome: str | None = None,
    value: str | None = None,
) -> None:
    """Writes one event and its line in the journal."""
    now = sandbox.clock.now()
    lag_fault = call.effect("summary_lag")
    lag = lag_fault.seconds if lag_fault else float(sandbox.settings["summary_lag_seconds"])
    value = reading.value if value is None else value
    # A copy never takes the name of the original: a cancellation must find one event.
    identifier = reading.identifier if outcome is None else f"{outcome}_{uuid.uuid4()}"
    sandbox.store.db.execute(
        "INSERT INTO meter_events (world, meter, customer, ts, value, identifier, received, "
        "visible, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            call.world.name,
            reading.meter["id"],
            reading.customer,
            reading.timestamp,
            value,
            identifier,
            now,
            now + lag,
            state,
        ),
    )
    journal(sandbox, call, reading, outcome=outcome or state, value=value)


def journal(sandbox: Sandbox, call: Call, reading: Reading, *, outcome: str, value: str) -> None:
    """Appends one line: what happened to which event."""
    sandbox.stats[f"meter_events.{outcome}"] += 1
    sandbox.store.db.execute(
        "INSERT INTO journal (at, world, outcome, event_name, meter, customer, identifier, "
        "value, timestamp, idempotency_key, request) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            sandbox.clock.now(),
            call.world.name,
            outcome,
            reading.meter["event_name"],
            reading.meter["id"],
            reading.customer,
            reading.identifier,
            value,
            reading.timestamp,
            call.idempotency_key,
            call.request_id,
        ),
    )


def reject_later(sandbox: Sandbox, call: Call, event: dict[str, Any], code: str) -> None:
    """Rejects an event of the stream that never became a reading."""
    name = str(event.get("event_name", ""))
    meter = active_meter(sandbox, call.world, name) or {"id": "", "event_name": name}
    payload = event.get("payload") or {}
    reading = Reading(
        meter=meter,
        customer=str(payload.get("stripe_customer_id", "")),
        value=str(payload.get("value", "")),
        identifier=str(event.get("identifier", "")),
        timestamp=sandbox.clock.seconds(),
        payload={},
    )
    journal(sandbox, call, reading, outcome="rejected", value=reading.value)
    _schedule_rejection(sandbox, call, reading, code)


def _schedule_rejection(sandbox: Sandbox, call: Call, reading: Reading, code: str) -> None:
    """Keeps an asynchronous rejection until its thin event is due."""
    sandbox.store.put(
        call.world.name,
        "rejection",
        {
            "id": new_id("rejection"),
            "due": sandbox.clock.now() + float(sandbox.settings["async_reject_seconds"]),
            "received": sandbox.clock.now(),
            "code": code,
            # What has no meter is told by `no_meter_found`, which has no related object (DOC).
            "meter": "" if code == "no_meter" else reading.meter["id"],
            "identifier": reading.identifier,
            "idempotency_key": call.idempotency_key,
            "request": call.request_id,
            "customer": reading.customer,
        },
    )


def events_between(
    sandbox: Sandbox, world: World, meter: str, customer: str, start: int, end: int
) -> Iterator[tuple[int, Decimal]]:
    """Yields (timestamp, value) of visible events in [start, end), in the order received."""
    rows = sandbox.store.db.execute(
        "SELECT ts, value FROM meter_events WHERE world = ? AND meter = ? AND customer = ? "
        "AND ts >= ? AND ts < ? AND state = 'applied' AND visible <= ? ORDER BY seq",
        (world.name, meter, customer, start, end, sandbox.clock.now()),
    )
    for row in rows:
        yield row["ts"], Decimal(row["value"])


def aggregate(meter: Doc, events: list[tuple[int, Decimal]]) -> Decimal:
    """Returns the usage of a meter from its events, in the order received.

    With `event_time_window` only the last received event of each UTC hour or day
    counts. `last` takes the newest timestamp, of equal ones the last received.
    """
    window = meter["event_time_window"]
    if window:
        size = WINDOW_SECONDS[window]
        events = list({ts // size: (ts, value) for ts, value in events}.values())
    formula = meter["default_aggregation"]["formula"]
    if formula == "count":
        return Decimal(len(events))
    if formula == "last":
        return max(enumerate(events), key=lambda e: (e[1][0], e[0]))[1][1] if events else Decimal()
    return sum((value for _, value in events), Decimal())


def usage_between(
    sandbox: Sandbox, world: World, meter: Doc, customer: str, start: int, end: int
) -> Decimal:
    """Returns the visible usage of a customer in [start, end)."""
    events = list(events_between(sandbox, world, meter["id"], customer, start, end))
    return aggregate(meter, events)
