"""`/v1/customers`."""

from __future__ import annotations

from billing.stripe_sandbox.answers import (
    answer,
    created_filter,
    emit,
    equal_filter,
    merged_metadata,
    page,
)
from billing.stripe_sandbox.engine import Call, Sandbox, new_id
from billing.stripe_sandbox.errors import no_such
from billing.stripe_sandbox.routing import route
from billing.stripe_sandbox.store import Doc

PLAIN_FIELDS = ("description", "email", "name", "phone", "address", "shipping")


@route("POST", "/v1/customers")
def create(sandbox: Sandbox, call: Call) -> Doc:
    """Creates a customer; `test_clock` attaches it for good."""
    params = call.params
    clock = params.get("test_clock")
    if clock:
        sandbox.find(call.world, "test_clock", clock, param="test_clock")
    doc: Doc = {
        "id": new_id("cus", 14),
        "object": "customer",
        "address": None,
        "balance": params.get("balance", 0),
        "created": sandbox.clock.seconds(),
        "currency": None,
        "customer_account": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "discount": None,
        "email": None,
        "invoice_prefix": params.get("invoice_prefix") or new_id("x", 8)[2:].upper(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": call.world.livemode,
        "metadata": merged_metadata({}, params.get("metadata")),
        "name": None,
        "next_invoice_sequence": 1,
        "phone": None,
        "preferred_locales": params.get("preferred_locales", []),
        "shipping": None,
        "tax_exempt": params.get("tax_exempt") or "none",
        "test_clock": clock,
    }
    if clock:
        doc["created"] = sandbox.find(call.world, "test_clock", clock)["frozen_time"]
    doc.update({name: params[name] or None for name in PLAIN_FIELDS if name in params})
    sandbox.store.put(call.world.name, "customer", doc)
    emit(sandbox, call.world, "customer.created", "customer", doc, call=call)
    return answer(sandbox, call, "customer", doc)


@route("GET", "/v1/customers")
def index(sandbox: Sandbox, call: Call) -> Doc:
    """Lists customers, newest first; those of a test clock only when asked for it."""
    docs = created_filter(call, sandbox.store.all(call.world.name, "customer"))
    clock = call.params.get("test_clock")
    docs = [doc for doc in docs if doc["test_clock"] == clock]
    return page(sandbox, call, "customer", equal_filter(call, docs, "email"))


@route("GET", "/v1/customers/{customer}")
def show(sandbox: Sandbox, call: Call) -> Doc:
    """Returns a customer, or the stub of a deleted one."""
    identifier = call.args["customer"]
    if sandbox.store.get(call.world.name, "deleted_customer", identifier):
        return {"id": identifier, "object": "customer", "deleted": True}
    return answer(sandbox, call, "customer", sandbox.find(call.world, "customer", identifier))


@route("POST", "/v1/customers/{customer}")
def update(sandbox: Sandbox, call: Call) -> Doc:
    """Changes plain fields and metadata."""
    old = sandbox.find(call.world, "customer", call.args["customer"])
    changes: Doc = {name: call.params[name] or None for name in PLAIN_FIELDS if name in call.params}
    if "metadata" in call.params:
        changes["metadata"] = merged_metadata(old["metadata"], call.params["metadata"])
    if "balance" in call.params:
        changes["balance"] = call.params["balance"]
    doc = sandbox.store.put(call.world.name, "customer", old | changes)
    previous = {name: old[name] for name in changes}
    emit(sandbox, call.world, "customer.updated", "customer", doc, previous=previous, call=call)
    return answer(sandbox, call, "customer", doc)


@route("DELETE", "/v1/customers/{customer}")
def delete(sandbox: Sandbox, call: Call) -> Doc:
    """Deletes a customer; meter events for it are refused from then on."""
    identifier = call.args["customer"]
    doc = sandbox.store.get(call.world.name, "customer", identifier)
    if doc is None:
        raise no_such("customer", identifier)
    sandbox.store.delete(call.world.name, "customer", identifier)
    stub: Doc = {"id": identifier, "object": "customer", "deleted": True}
    sandbox.store.put(call.world.name, "deleted_customer", stub)
    emit(sandbox, call.world, "customer.deleted", "customer", doc, call=call)
    return stub
