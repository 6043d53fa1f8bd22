"""`/v1/test_helpers/test_clocks`: customers whose time is moved by hand."""

from __future__ import annotations

from billing.stripe_sandbox.answers import answer, emit, page
from billing.stripe_sandbox.engine import Call, Sandbox, new_id
from billing.stripe_sandbox.errors import Failure
from billing.stripe_sandbox.rollover import run_until
from billing.stripe_sandbox.routing import route
from billing.stripe_sandbox.store import Doc

KEPT_SECONDS = 30 * 86_400


@route("POST", "/v1/test_helpers/test_clocks")
def create(sandbox: Sandbox, call: Call) -> Doc:
    """Creates a clock that stands at `frozen_time`; test mode only."""
    if call.world.livemode:
        raise Failure("Test clocks can only be used in test mode.")
    return answer(sandbox, call, "test_clock", new_clock(sandbox, call))


def new_clock(sandbox: Sandbox, call: Call) -> Doc:
    """Stores a clock that stands at `frozen_time`, whatever the mode."""
    now = sandbox.clock.seconds()
    doc: Doc = {
        "id": new_id("clock"),
        "object": "test_helpers.test_clock",
        "created": now,
        "deletes_after": now + KEPT_SECONDS,
        "frozen_time": call.params["frozen_time"],
        "livemode": call.world.livemode,
        "name": call.params.get("name"),
        "status": "ready",
        "status_details": {},
    }
    sandbox.store.put(call.world.name, "test_clock", doc)
    emit(sandbox, call.world, "test_helpers.test_clock.created", "test_clock", doc, call=call)
    return doc


@route("GET", "/v1/test_helpers/test_clocks")
def index(sandbox: Sandbox, call: Call) -> Doc:
    """Lists clocks, newest first."""
    return page(sandbox, call, "test_clock", sandbox.store.all(call.world.name, "test_clock"))


@route("GET", "/v1/test_helpers/test_clocks/{test_clock}")
def show(sandbox: Sandbox, call: Call) -> Doc:
    """Returns a clock."""
    doc = sandbox.find(call.world, "test_clock", call.args["test_clock"])
    return answer(sandbox, call, "test_clock", doc)


@route("POST", "/v1/test_helpers/test_clocks/{test_clock}/advance")
def advance(sandbox: Sandbox, call: Call) -> Doc:
    """Moves a clock forward, with everything that becomes due on the way.

    The answer says "advancing", as Stripe's does; the work is done by then, so the
    next read says "ready".
    """
    old = sandbox.find(call.world, "test_clock", call.args["test_clock"])
    target = int(call.params["frozen_time"])
    if target <= old["frozen_time"]:
        raise Failure(
            "`frozen_time` must be after the current frozen time of the clock.",
            param="frozen_time",
        )
    advancing = old | {
        "status": "advancing",
        "status_details": {"advancing": {"target_frozen_time": target}},
    }
    emit(
        sandbox,
        call.world,
        "test_helpers.test_clock.advancing",
        "test_clock",
        advancing,
        call=call,
    )
    doc = sandbox.store.put(call.world.name, "test_clock", old | {"frozen_time": target})
    run_until(sandbox, call.world, doc["id"], target)
    emit(sandbox, call.world, "test_helpers.test_clock.ready", "test_clock", doc, call=call)
    return answer(sandbox, call, "test_clock", advancing)


@route("DELETE", "/v1/test_helpers/test_clocks/{test_clock}")
def delete(sandbox: Sandbox, call: Call) -> Doc:
    """Deletes a clock with its customers and their subscriptions."""
    doc = sandbox.find(call.world, "test_clock", call.args["test_clock"])
    for kind in ("subscription", "invoice", "customer"):
        for held in sandbox.store.all(call.world.name, kind):
            if held["test_clock"] == doc["id"]:
                sandbox.store.delete(call.world.name, kind, held["id"])
    sandbox.store.delete(call.world.name, "test_clock", doc["id"])
    emit(sandbox, call.world, "test_helpers.test_clock.deleted", "test_clock", doc, call=call)
    return {"id": doc["id"], "object": "test_helpers.test_clock", "deleted": True}
