"""`/v1/billing/meters/{id}/event_summaries`: the only way to read usage back."""

from __future__ import annotations

import hashlib
from decimal import Decimal

from billing.stripe_sandbox.answers import cut
from billing.stripe_sandbox.engine import Call, Sandbox
from billing.stripe_sandbox.errors import Failure
from billing.stripe_sandbox.metering import WINDOW_SECONDS, aggregate, events_between
from billing.stripe_sandbox.routing import route
from billing.stripe_sandbox.store import Doc

MINUTE = 60


def _range(call: Call) -> tuple[int, int, int | None]:
    """Returns (start, end, window seconds or None), with misaligned ranges refused (SPEC)."""
    start, end = int(call.params["start_time"]), int(call.params["end_time"])
    window = call.params.get("value_grouping_window")
    size = WINDOW_SECONDS[window] if window else None
    words = {"hour": "hour", "day": "UTC day"}.get(window or "", "minute")
    for name, moment in (("start_time", start), ("end_time", end)):
        if moment % (size or MINUTE):
            raise Failure(f"`{name}` must be aligned with {words} boundaries.", param=name)
    if start >= end:
        raise Failure("`end_time` must be after `start_time`.", param="end_time")
    return start, end, size


@route("GET", "/v1/billing/meters/{id}/event_summaries")
def index(sandbox: Sandbox, call: Call) -> Doc:
    """Returns sums of one customer: one for the range, or one per UTC hour or day.

    Newest window first; windows without events are left out (unverified). Values
    are JSON numbers in double precision, as Stripe's are.
    """
    meter = sandbox.find(call.world, "meter", call.args["id"])
    start, end, size = _range(call)
    customer = sandbox.find(call.world, "customer", call.params["customer"], param="customer")
    events = list(events_between(sandbox, call.world, meter["id"], customer["id"], start, end))
    windows: dict[int, list[tuple[int, Decimal]]] = {}
    for moment, value in events:
        begin = start if size is None else moment // size * size
        windows.setdefault(begin, []).append((moment, value))
    if size is None:
        windows.setdefault(start, [])
    length = size or end - start
    summaries = [
        _summary(call, meter, customer["id"], begin, begin + length, aggregate(meter, part))
        for begin, part in sorted(windows.items(), reverse=True)
    ]
    chosen, has_more = cut(call, summaries)
    return {"object": "list", "data": chosen, "has_more": has_more, "url": call.path}


def _summary(call: Call, meter: Doc, customer: str, start: int, end: int, usage: Decimal) -> Doc:
    """Returns one summary; its id is the same whenever the same window is read."""
    digest = hashlib.sha256(f"{meter['id']}:{customer}:{start}:{end}".encode()).hexdigest()
    return {
        "id": f"mtrusg_{digest[:24]}",
        "object": "billing.meter_event_summary",
        "aggregated_value": float(usage),
        "end_time": end,
        "livemode": call.world.livemode,
        "meter": meter["id"],
        "start_time": start,
    }
