"""`/v1/invoices`."""

from __future__ import annotations

from billing.stripe_sandbox.answers import (
    answer,
    created_filter,
    cut,
    emit,
    equal_filter,
    expanded,
    merged_metadata,
    page,
)
from billing.stripe_sandbox.engine import Call, Sandbox
from billing.stripe_sandbox.errors import Failure, missing_param
from billing.stripe_sandbox.invoicing import (
    finalize,
    lines_of,
    new_invoice,
    pay,
    render_invoice,
    store_new,
    void,
)
from billing.stripe_sandbox.preview import build_preview
from billing.stripe_sandbox.routing import route
from billing.stripe_sandbox.store import Doc


def _found(sandbox: Sandbox, call: Call) -> Doc:
    """Returns the invoice of the path."""
    return sandbox.find(call.world, "invoice", call.args["invoice"])


def _now(sandbox: Sandbox, call: Call, invoice: Doc) -> int:
    """Returns the time that rules the invoice's customer."""
    return sandbox.time_for(call.world, invoice["customer"])


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
    return answer(sandbox, call, "invoice", _found(sandbox, call))


@route("GET", "/v1/invoices/{invoice}/lines")
def lines(sandbox: Sandbox, call: Call) -> Doc:
    """Lists the lines of an invoice, in their order."""
    found = lines_of(sandbox, call.world, _found(sandbox, call))
    chosen, has_more = cut(call, found)
    return expanded(
        sandbox,
        call,
        {"object": "list", "data": chosen, "has_more": has_more, "url": call.path},
    )


@route("POST", "/v1/invoices")
def create(sandbox: Sandbox, call: Call) -> Doc:
    """Creates an empty draft by hand; it finalises by itself only with `auto_advance`."""
    params = call.params
    if "customer" not in params:
        raise missing_param("customer")
    customer = sandbox.find(call.world, "customer", params["customer"], param="customer")
    at = sandbox.time_for(call.world, customer["id"])
    invoice = new_invoice(
        sandbox,
        call.world,
        customer=customer,
        currency=params.get("currency", "usd"),
        sources=[],
        at=at,
        reason="manual",
        period=(at, at),
        collection_method=params.get("collection_method", "charge_automatically"),
        auto_advance=params.get("auto_advance", False),
    )
    invoice["metadata"] = merged_metadata({}, params.get("metadata"))
    invoice["description"] = params.get("description")
    invoice = store_new(sandbox, call.world, invoice, call=call)
    return answer(sandbox, call, "invoice", invoice)


@route("POST", "/v1/invoices/create_preview")
def create_preview(sandbox: Sandbox, call: Call) -> Doc:
    """Returns the invoice to come, or one of what-ifs; nothing is stored."""
    invoice = build_preview(sandbox, call)
    shown = render_invoice(sandbox, call.world, invoice)
    # Lines of a preview are sent whole: there is nothing to page through afterwards.
    found = lines_of(sandbox, call.world, invoice)
    shown["lines"] |= {"data": found, "has_more": False}
    return expanded(sandbox, call, {name: value for name, value in shown.items() if name[0] != "_"})


@route("POST", "/v1/invoices/{invoice}")
def update(sandbox: Sandbox, call: Call) -> Doc:
    """Changes description, metadata and, on a draft, automatic advance."""
    old = _found(sandbox, call)
    changes: Doc = {
        name: call.params[name] for name in ("description", "footer") if name in call.params
    }
    if "metadata" in call.params:
        changes["metadata"] = merged_metadata(old["metadata"] or {}, call.params["metadata"])
    if "auto_advance" in call.params:
        changes["auto_advance"] = call.params["auto_advance"]
        if old["status"] == "draft":
            grace = int(sandbox.settings["finalization_grace_seconds"])
            due = old["created"] + grace if call.params["auto_advance"] else None
            changes["automatically_finalizes_at"] = due
    doc = sandbox.store.put(call.world.name, "invoice", old | changes)
    previous = {name: old[name] for name in changes}
    emit(sandbox, call.world, "invoice.updated", "invoice", doc, previous=previous, call=call)
    return answer(sandbox, call, "invoice", doc)


@route("DELETE", "/v1/invoices/{invoice}")
def delete(sandbox: Sandbox, call: Call) -> Doc:
    """Deletes a draft that no subscription made."""
    doc = _found(sandbox, call)
    if doc["status"] != "draft" or doc["_subscription"]:
        raise Failure("You can only delete one-off draft invoices.", code="invoice_not_editable")
    sandbox.store.delete(call.world.name, "invoice", doc["id"])
    emit(sandbox, call.world, "invoice.deleted", "invoice", doc, call=call)
    return {"id": doc["id"], "object": "invoice", "deleted": True}


@route("POST", "/v1/invoices/{invoice}/finalize")
def finalize_now(sandbox: Sandbox, call: Call) -> Doc:
    """Finalises a draft without waiting for its grace to end."""
    doc = _found(sandbox, call)
    if "auto_advance" in call.params:
        doc = doc | {"auto_advance": call.params["auto_advance"]}
    doc = finalize(sandbox, call.world, doc, at=_now(sandbox, call, doc), call=call)
    return answer(sandbox, call, "invoice", doc)


@route("POST", "/v1/invoices/{invoice}/pay")
def pay_now(sandbox: Sandbox, call: Call) -> Doc:
    """Pays an open invoice; a draft is finalised first."""
    doc = _found(sandbox, call)
    at = _now(sandbox, call, doc)
    if doc["status"] == "draft":
        doc = finalize(sandbox, call.world, doc | {"auto_advance": False}, at=at, call=call)
        if doc["status"] == "paid":  # nothing was due
            return answer(sandbox, call, "invoice", doc)
    doc = pay(sandbox, call.world, doc, at=at, call=call)
    return answer(sandbox, call, "invoice", doc)


@route("POST", "/v1/invoices/{invoice}/void")
def void_now(sandbox: Sandbox, call: Call) -> Doc:
    """Voids an open invoice."""
    doc = _found(sandbox, call)
    doc = void(sandbox, call.world, doc, at=_now(sandbox, call, doc), call=call)
    return answer(sandbox, call, "invoice", doc)


@route("POST", "/v1/invoices/{invoice}/send")
def send(sandbox: Sandbox, call: Call) -> Doc:
    """Marks an invoice as sent; nothing is mailed."""
    doc = _found(sandbox, call)
    if doc["status"] == "draft":
        doc = finalize(sandbox, call.world, doc, at=_now(sandbox, call, doc), call=call)
    emit(sandbox, call.world, "invoice.sent", "invoice", doc, call=call)
    return answer(sandbox, call, "invoice", doc)


@route("POST", "/v1/invoices/{invoice}/mark_uncollectible")
def mark_uncollectible(sandbox: Sandbox, call: Call) -> Doc:
    """Gives up on an open invoice."""
    doc = _found(sandbox, call)
    if doc["status"] != "open":
        raise Failure("You can only mark an open invoice as uncollectible.")
    at = _now(sandbox, call, doc)
    transitions = doc["status_transitions"] | {"marked_uncollectible_at": at}
    doc = sandbox.store.put(
        call.world.name,
        "invoice",
        doc | {"status": "uncollectible", "status_transitions": transitions},
    )
    emit(sandbox, call.world, "invoice.marked_uncollectible", "invoice", doc, call=call)
    return answer(sandbox, call, "invoice", doc)
