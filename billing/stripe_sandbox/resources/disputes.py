"""`/v1/disputes`: minimal; a dispute is made by the control API."""

from __future__ import annotations

from billing.stripe_sandbox.answers import answer, created_filter, page
from billing.stripe_sandbox.engine import Call, Sandbox
from billing.stripe_sandbox.routing import route
from billing.stripe_sandbox.store import Doc


@route("GET", "/v1/disputes")
def index(sandbox: Sandbox, call: Call) -> Doc:
    """Lists disputes, newest first."""
    docs = created_filter(call, sandbox.store.all(call.world.name, "dispute"))
    return page(sandbox, call, "dispute", docs)


@route("GET", "/v1/disputes/{dispute}")
def show(sandbox: Sandbox, call: Call) -> Doc:
    """Returns a dispute."""
    doc = sandbox.find(call.world, "dispute", call.args["dispute"])
    return answer(sandbox, call, "dispute", doc)
