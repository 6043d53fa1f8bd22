"""`/v1/billing/meters`."""

from __future__ import annotations

from billing.stripe_sandbox.answers import answer, emit, equal_filter, page
from billing.stripe_sandbox.engine import Call, Sandbox, new_id
from billing.stripe_sandbox.errors import Failure
from billing.stripe_sandbox.metering import active_meter
from billing.stripe_sandbox.routing import route
from billing.stripe_sandbox.store import Doc


@route("POST", "/v1/billing/meters")
def create(sandbox: Sandbox, call: Call) -> Doc:
    """Creates a meter; one active meter per event name (DOC meters/configure)."""
    params = call.params
    _refuse_taken_name(sandbox, call, params["event_name"])
    now = sandbox.clock.seconds()
    doc: Doc = {
        "id": new_id("mtr_test" if not call.world.livemode else "mtr", 24),
        "object": "billing.meter",
        "created": now,
        "customer_mapping": params.get(
            "customer_mapping", {"event_payload_key": "stripe_customer_id", "type": "by_id"}
        ),
        "default_aggregation": params["default_aggregation"],
        "display_name": params["display_name"],
        "event_name": params["event_name"],
        "event_time_window": params.get("event_time_window"),
        "livemode": call.world.livemode,
        "status": "active",
        "status_transitions": {"deactivated_at": None},
        "updated": now,
        "value_settings": params.get("value_settings", {"event_payload_key": "value"}),
    }
    sandbox.store.put(call.world.name, "meter", doc)
    emit(sandbox, call.world, "billing.meter.created", "meter", doc, call=call)
    return answer(sandbox, call, "meter", doc)


def _refuse_taken_name(sandbox: Sandbox, call: Call, event_name: str) -> None:
    if active_meter(sandbox, call.world, event_name) is not None:
        # Unverified wording; that one event name belongs to one meter is documented.
        raise Failure(
            f"An active meter already exists with event name {event_name}.", param="event_name"
        )


@route("GET", "/v1/billing/meters")
def index(sandbox: Sandbox, call: Call) -> Doc:
    """Lists meters, newest first."""
    docs = sandbox.store.all(call.world.name, "meter")
    return page(sandbox, call, "meter", equal_filter(call, docs, "status"))


@route("GET", "/v1/billing/meters/{id}")
def show(sandbox: Sandbox, call: Call) -> Doc:
    """Returns a meter."""
    return answer(sandbox, call, "meter", sandbox.find(call.world, "meter", call.args["id"]))


@route("POST", "/v1/billing/meters/{id}")
def update(sandbox: Sandbox, call: Call) -> Doc:
    """Changes the display name; everything else is fixed (SPEC)."""
    old = sandbox.find(call.world, "meter", call.args["id"])
    name = call.params.get("display_name", old["display_name"])
    return _changed(sandbox, call, "billing.meter.updated", old, {"display_name": name})


@route("POST", "/v1/billing/meters/{id}/deactivate")
def deactivate(sandbox: Sandbox, call: Call) -> Doc:
    """Archives a meter: no more events, and no new prices on it."""
    old = sandbox.find(call.world, "meter", call.args["id"])
    if old["status"] == "inactive":
        raise Failure(f"The meter {old['id']} is already inactive.")
    changes = {
        "status": "inactive",
        "status_transitions": {"deactivated_at": sandbox.clock.seconds()},
    }
    return _changed(sandbox, call, "billing.meter.deactivated", old, changes)


@route("POST", "/v1/billing/meters/{id}/reactivate")
def reactivate(sandbox: Sandbox, call: Call) -> Doc:
    """Takes an archived meter into use again."""
    old = sandbox.find(call.world, "meter", call.args["id"])
    if old["status"] == "active":
        raise Failure(f"The meter {old['id']} is already active.")
    _refuse_taken_name(sandbox, call, old["event_name"])
    changes = {"status": "active", "status_transitions": {"deactivated_at": None}}
    return _changed(sandbox, call, "billing.meter.reactivated", old, changes)


def _changed(sandbox: Sandbox, call: Call, event_type: str, old: Doc, changes: Doc) -> Doc:
    """Stores a changed meter, emits its event and returns the answer."""
    doc = sandbox.store.put(
        call.world.name, "meter", old | changes | {"updated": sandbox.clock.seconds()}
    )
    previous = {name: old[name] for name in changes}
    emit(sandbox, call.world, event_type, "meter", doc, previous=previous, call=call)
    return answer(sandbox, call, "meter", doc)
