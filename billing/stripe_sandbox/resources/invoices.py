"""`/v1/invoices`."""

from __future__ import annotations

from billing.stripe_sandbox.engine import Call, Sandbox
from billing.stripe_sandbox.resources.common import (
    answer,
    created_filter,
    equal_filter,
    page,
)
from billing.stripe_sandbox.routing import route
from billing.stripe_sandbox.store import Doc


@route("GET", "/v1/invoices")
def index(sandbox: Sandbox, call: Call) -> Doc:
    """Lists invoices, newest first."""
    docs = created_filter(call, sandbox.store.all(call.world.name, "invoice"))
    docs = equal_filter(call, docs, "collection_method", "customer", "status")
    wanted = call.params.get("subscription")
    if wanted:
        docs = [doc for doc in docs if doc["_subscription"] == wanted]
    return page(sandbox, call, "invoice", docs)


@route("GET", "/v1/invoices/{invoice}")
def show(sandbox: Sandbox, call: Call) -> Doc:
    """Returns an invoice."""
    doc = sandbox.find(call.world, "invoice", call.args["invoice"])
    return answer(sandbox, call, "invoice", doc)
