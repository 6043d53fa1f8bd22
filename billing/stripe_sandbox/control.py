"""The control API under `/_sandbox/`: clock, faults, journal, totals, settings.

Everything here is JSON and needs no key: the sandbox listens on loopback and
holds no secret. `docs/sandbox.md` lists the endpoints with examples.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from billing.stripe_sandbox import metering
from billing.stripe_sandbox.answers import emit
from billing.stripe_sandbox.engine import DEFAULT_SETTINGS, Call, Sandbox, World, new_id
from billing.stripe_sandbox.gate import DEFAULT_ACCOUNT
from billing.stripe_sandbox.metering import Reading, active_meter
from billing.stripe_sandbox.outbox import queue_delivery
from billing.stripe_sandbox.resources import test_clocks
from billing.stripe_sandbox.routing import operations

if TYPE_CHECKING:
    from billing.stripe_sandbox.app import Application

DAY = 86_400

JOURNAL_LIMIT_DEFAULT = 1_000
JOURNAL_LIMIT_MAX = 100_000


class ControlError(Exception):
    """A control call that makes no sense: HTTP status and message."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True)
class Order:
    """One control call."""

    application: Application
    query: dict[str, str]
    body: dict[str, Any]
    argument: str = ""

    @property
    def sandbox(self) -> Sandbox:
        """Returns the sandbox it is about."""
        return self.application.sandbox


Action = Callable[[Order], Awaitable[Any]]
_ACTIONS: dict[tuple[str, str], Action] = {}


def _action(method: str, name: str) -> Callable[[Action], Action]:
    """Registers the function behind `METHOD /_sandbox/<name>`."""

    def register(function: Action) -> Action:
        _ACTIONS[method, name] = function
        return function

    return register


async def serve(
    application: Application, method: str, path: str, query: str, body: bytes
) -> tuple[int, Any]:
    """Returns (HTTP status, JSON answer) of a control call."""
    name, _, argument = path.removeprefix("/_sandbox").strip("/").partition("/")
    action = _ACTIONS.get((method, name))
    if action is None:
        known = sorted(f"{verb} /_sandbox/{word}" for verb, word in _ACTIONS)
        return 404, {"error": f"no {method} {path}", "known": known}
    try:
        fields = json.loads(body) if body else {}
    except ValueError:
        raise ControlError("the body is not JSON") from None
    if not isinstance(fields, dict):
        raise ControlError("the body is not a JSON object")
    order = Order(application, dict(parse_qsl(query)), fields, argument)
    try:
        return 200, await action(order)
    except (KeyError, TypeError, ValueError) as error:
        raise ControlError(f"a field is missing or wrong: {error!r}") from error


@_action("GET", "health")
async def health(order: Order) -> Any:
    """Tells that the process serves."""
    return {"status": "ok", "operations": len(operations())}


@_action("POST", "reset")
async def reset(order: Order) -> Any:
    """Forgets everything, back to an empty account and wall time."""
    order.sandbox.reset()
    order.application.deliverer.clear()
    order.application.limits.clear()
    return {"status": "ok"}


@_action("GET", "clock")
async def clock(order: Order) -> Any:
    """Returns the sandbox's time."""
    return order.sandbox.clock.state()


@_action("POST", "clock")
async def change_clock(order: Order) -> Any:
    """Sets (`now`), moves (`advance_seconds`), stops or starts (`freeze`), or resets it."""
    unknown = set(order.body) - {"now", "advance_seconds", "freeze", "reset"}
    if unknown:
        raise ControlError(f"unknown fields {sorted(unknown)}")
    sandbox = order.sandbox
    if order.body.get("reset"):
        sandbox.clock.reset()
    if "freeze" in order.body:
        sandbox.clock.freeze(bool(order.body["freeze"]))
    if "now" in order.body:
        sandbox.clock.set(float(order.body["now"]))
    if "advance_seconds" in order.body:
        sandbox.clock.advance(float(order.body["advance_seconds"]))
    with sandbox.store.transaction():
        sandbox.save_settings()
    order.application.advance()
    order.application.deliverer.wake()
    return sandbox.clock.state()


@_action("GET", "settings")
async def settings(order: Order) -> Any:
    """Returns the settings in force."""
    return order.sandbox.settings


@_action("POST", "settings")
async def change_settings(order: Order) -> Any:
    """Changes some settings; unknown names are refused."""
    unknown = set(order.body) - set(DEFAULT_SETTINGS)
    if unknown:
        raise ControlError(f"unknown settings {sorted(unknown)}; known: {sorted(DEFAULT_SETTINGS)}")
    order.sandbox.settings.update(order.body)
    with order.sandbox.store.transaction():
        order.sandbox.save_settings()
    order.application.limits.clear()
    return order.sandbox.settings


@_action("GET", "faults")
async def faults(order: Order) -> Any:
    """Returns the script with its counts."""
    return {"faults": [fault.as_json() for fault in order.sandbox.faults.all()]}


@_action("POST", "faults")
async def add_faults(order: Order) -> Any:
    """Adds one fault, or several as `{"faults": [...]}`."""
    rows = order.body.get("faults", [order.body])
    try:
        added = [order.sandbox.faults.add(row) for row in rows]
    except (ValueError, TypeError) as error:
        raise ControlError(str(error)) from None
    return {"faults": [fault.as_json() for fault in added]}


@_action("DELETE", "faults")
async def remove_faults(order: Order) -> Any:
    """Removes one fault (`/faults/<id>`) or all."""
    if order.argument:
        if not order.sandbox.faults.remove(order.argument):
            raise ControlError(f"no fault {order.argument}", 404)
    else:
        order.sandbox.faults.clear()
    return await faults(order)


@_action("POST", "keys")
async def keys(order: Order) -> Any:
    """Revokes (`revoke`) or restores (`restore`) an API key: 401 from then on."""
    revoked = order.sandbox.revoked_keys
    revoked.update([order.body["revoke"]] if "revoke" in order.body else [])
    revoked.difference_update([order.body["restore"]] if "restore" in order.body else [])
    with order.sandbox.store.transaction():
        order.sandbox.save_settings()
    return {"revoked": sorted(revoked)}


@_action("GET", "stats")
async def stats(order: Order) -> Any:
    """Returns counters since the start or the last reset."""
    return dict(sorted(order.sandbox.stats.items()))


def _where(order: Order, names: dict[str, str]) -> tuple[str, list[str]]:
    """Returns (SQL condition, values) from the query parameters that were given."""
    asked = [(column, order.query[name]) for name, column in names.items() if name in order.query]
    condition = " AND ".join(f"{column} = ?" for column, _ in asked) or "1"
    return condition, [value for _, value in asked]


@_action("GET", "journal")
async def journal(order: Order) -> Any:
    """Returns journal lines after `after`, filtered by world, customer, meter, outcome…"""
    names = ("world", "customer", "meter", "event_name", "identifier", "outcome")
    condition, values = _where(order, {name: name for name in names})
    limit = min(int(order.query.get("limit", JOURNAL_LIMIT_DEFAULT)), JOURNAL_LIMIT_MAX)
    rows = order.sandbox.store.db.execute(
        f"SELECT * FROM journal WHERE {condition} AND seq > ? ORDER BY seq LIMIT ?",
        (*values, int(order.query.get("after", 0)), limit),
    ).fetchall()
    return {"entries": [dict(row) for row in rows]}


@_action("GET", "totals")
async def totals(order: Order) -> Any:
    """Returns exact sums of what counts, by world, meter, customer and UTC day."""
    condition, values = _where(
        order, {"world": "e.world", "customer": "customer", "meter": "meter"}
    )
    rows = order.sandbox.store.db.execute(
        f"SELECT e.world, meter, customer, ts, value FROM meter_events e WHERE {condition} "
        "AND state = 'applied' ORDER BY seq",
        values,
    )
    sums: dict[tuple[str, str, str, int], list[Decimal]] = {}
    for row in rows:
        day = row["ts"] // DAY * DAY
        key = (row["world"], row["meter"], row["customer"], day)
        sums.setdefault(key, []).append(Decimal(row["value"]))
    found = []
    for (world, meter, customer, day), parts in sums.items():
        doc = order.sandbox.store.get(world, "meter", meter) or {"event_name": ""}
        if order.query.get("event_name") not in (None, doc["event_name"]):
            continue
        found.append(
            {
                "world": world,
                "meter": meter,
                "event_name": doc["event_name"],
                "customer": customer,
                "day": day,
                "count": len(parts),
                "sum": format(sum(parts, Decimal()), "f"),
            }
        )
    return {"totals": found}


@_action("POST", "foreign")
async def foreign(order: Order) -> Any:
    """Applies usage that no caller of ours sent: a write from the dashboard.

    Fields: `event_name`, `customer`, `value`; optional `timestamp`, `world`.
    """
    sandbox, body = order.sandbox, order.body
    world = World.named(str(body.get("world", f"test:{DEFAULT_ACCOUNT}")))
    meter = active_meter(sandbox, world, str(body.get("event_name")))
    if meter is None:
        raise ControlError(f"no active meter {body.get('event_name')!r} in {world.name}", 404)
    reading = Reading(
        meter=meter,
        customer=str(body["customer"]),
        value=str(body["value"]),
        identifier="",
        timestamp=int(body.get("timestamp", sandbox.clock.seconds())),
        payload={},
    )
    call = Call("POST", "", "", {}, {}, world, "", "", new_id("req", 14))
    with sandbox.store.transaction():
        metering.record(sandbox, call, reading, state="applied", outcome="foreign")
    return {"status": "ok"}


@_action("POST", "clocks")
async def clocks(order: Order) -> Any:
    """Makes a test clock at `frozen_time`, or moves one (`/clocks/<id>`) there.

    Unlike Stripe's, it may stand in the live world (`world`): for histories of the demo.
    """
    world = World.named(str(order.body.get("world", f"test:{DEFAULT_ACCOUNT}")))
    args = {"test_clock": order.argument} if order.argument else {}
    params = {"frozen_time": int(order.body["frozen_time"])}
    call = Call("POST", "", "", args, params, world, "", "", new_id("req", 14))
    act = test_clocks.advance if order.argument else test_clocks.new_clock
    with order.sandbox.store.transaction():
        doc = act(order.sandbox, call)
    order.application.deliverer.wake()
    return {"id": doc["id"]}


@_action("GET", "webhooks")
async def webhooks(order: Order) -> Any:
    """Returns what waits, what is held, and the log of attempts (the last 1,000)."""
    deliverer = order.application.deliverer
    return {
        "waiting": order.sandbox.outbox,
        "held": deliverer.held,
        "attempts": list(deliverer.log),
    }


@_action("POST", "webhooks")
async def steer_webhooks(order: Order) -> Any:
    """Steers deliveries.

    `/flush` sends everything that waits, now; `/release` sends what is held, with
    `order` "forward", "reverse", "shuffle" (and `seed`) or a list of event ids;
    `/resend` sends one `event` again, `times` times.
    """
    deliverer = order.application.deliverer
    if order.argument == "flush":
        return {"sent": await deliverer.run_due(force=True)}
    if order.argument == "release":
        count = deliverer.release(
            order.body.get("order", "forward"), int(order.body.get("seed", 0))
        )
        await deliverer.run_due(force=True)
        return {"released": count}
    if order.argument == "resend":
        return {"sent": await _resend(order)}
    raise ControlError("one of /flush, /release, /resend is needed", 404)


async def _resend(order: Order) -> int:
    """Queues one event again for every endpoint that takes it, and sends it."""
    identifier = str(order.body.get("event", ""))
    sandbox = order.sandbox
    for name in sandbox.store.worlds():
        world = World.named(name)
        for event_kind, kind in (("event", "webhook_endpoint"), ("v2_event", "event_destination")):
            event = sandbox.store.get(name, event_kind, identifier)
            if event is None:
                continue
            for endpoint in sandbox.store.all(name, kind):
                for _ in range(int(order.body.get("times", 1))):
                    queue_delivery(sandbox, world, kind, endpoint["id"], event_kind, event)
            return await order.application.deliverer.run_due(force=True)
    raise ControlError(f"no event {identifier}", 404)


@_action("POST", "disputes")
async def dispute(order: Order) -> Any:
    """Opens a dispute over a paid invoice: `invoice`, optional `reason`, `world`."""
    sandbox = order.sandbox
    world = World.named(str(order.body.get("world", f"test:{DEFAULT_ACCOUNT}")))
    invoice = sandbox.store.get(world.name, "invoice", str(order.body.get("invoice")))
    if invoice is None:
        raise ControlError("no such invoice", 404)
    doc = {
        "id": new_id("du"),
        "object": "dispute",
        "amount": invoice["amount_paid"],
        "balance_transactions": [],
        "charge": new_id("ch"),
        "created": sandbox.clock.seconds(),
        "currency": invoice["currency"],
        "evidence": {},
        "evidence_details": {
            "due_by": None,
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        "is_charge_refundable": False,
        "livemode": world.livemode,
        "metadata": {"invoice": invoice["id"]},
        "payment_intent": None,
        "reason": str(order.body.get("reason", "general")),
        "status": "needs_response",
    }
    with sandbox.store.transaction():
        sandbox.store.put(world.name, "dispute", doc)
        emit(sandbox, world, "charge.dispute.created", "dispute", doc)
    order.application.deliverer.wake()
    return doc
