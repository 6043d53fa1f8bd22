"""`create_preview`: the invoice to come, or what one of given items would be."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from billing.stripe_sandbox.engine import Call, Sandbox, new_id
from billing.stripe_sandbox.errors import Failure, missing_param
from billing.stripe_sandbox.invoicing import new_invoice, source_of_item
from billing.stripe_sandbox.periods import period_at
from billing.stripe_sandbox.store import Doc
from billing.stripe_sandbox.subscription_store import ENDED, items_of


def build_preview(sandbox: Sandbox, call: Call) -> Doc:
    """Returns an unstored draft: of a subscription as it stands or as changed, or of items.

    Metered lines show the usage recorded so far (DOC manage-billing).
    """
    params = call.params
    subscription = _subscription(sandbox, call)
    customer = _customer(sandbox, call, subscription)
    at = sandbox.time_for(call.world, customer["id"])
    details = params.get("subscription_details") or {}
    changes = details.get("items") or []
    if subscription is None and not changes and not params.get("invoice_items"):
        raise missing_param("subscription_details[items]")
    sources, end = _item_sources(sandbox, call, subscription, changes, at)
    currency = params.get("currency") or _currency(sandbox, call, subscription, sources)
    sources += _pending_sources(sandbox, call, subscription)
    sources += [
        _invoice_item_source(sandbox, call, row, at) for row in params.get("invoice_items") or []
    ]
    start = min((source["start"] for source in sources), default=at)
    invoice = new_invoice(
        sandbox,
        call.world,
        customer=customer,
        currency=currency,
        sources=sources,
        at=end,
        reason="upcoming",
        period=(start, end),
        subscription=subscription,
    )
    invoice["id"] = new_id("upcoming_in")
    return invoice


def _subscription(sandbox: Sandbox, call: Call) -> Doc | None:
    identifier = call.params.get("subscription")
    if not identifier:
        return None
    doc = sandbox.find(call.world, "subscription", identifier, param="subscription")
    if doc["status"] in ENDED:
        raise Failure(
            f"No upcoming invoices for subscription: {identifier}",
            status=404,
            code="invoice_upcoming_none",
        )
    return doc


def _customer(sandbox: Sandbox, call: Call, subscription: Doc | None) -> Doc:
    """Returns the customer, or a nameless one for `customer_details`."""
    identifier = call.params.get("customer") or (subscription or {}).get("customer")
    if identifier:
        return sandbox.find(call.world, "customer", identifier, param="customer")
    if "customer_details" not in call.params:
        raise missing_param("customer")
    return {
        "id": new_id("cus", 14),
        "address": None,
        "email": None,
        "name": None,
        "phone": None,
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
    }


def _currency(sandbox: Sandbox, call: Call, subscription: Doc | None, sources: list[Doc]) -> str:
    if subscription is not None:
        return str(subscription["currency"])
    if sources:
        return str(sandbox.find(call.world, "price", sources[0]["price"])["currency"])
    rows = call.params.get("invoice_items") or [{}]
    price = sandbox.store.get(call.world.name, "price", str(rows[0].get("price", "")))
    return str(price["currency"] if price else rows[0].get("currency", "usd"))


def _item_sources(
    sandbox: Sandbox,
    call: Call,
    subscription: Doc | None,
    changes: list[dict[str, Any]],
    at: int,
) -> tuple[list[Doc], int]:
    """Returns (sources of the items after the changes, the period's end)."""
    items = items_of(sandbox, call.world, subscription["id"]) if subscription else []
    by_id: dict[str, Doc] = {item["id"]: item for item in items}
    for index, change in enumerate(changes):
        where = f"subscription_details[items][{index}]"
        known = by_id.get(change.get("id", ""))
        if "id" in change and known is None:
            raise Failure(f"No such subscription item: '{change['id']}'", param=f"{where}[id]")
        if known is not None and change.get("deleted"):
            del by_id[known["id"]]
        elif known is not None:
            by_id[known["id"]] = known | _changed(sandbox, call, change, where)
        else:
            item = _new_item(sandbox, call, change, at, where)
            by_id[item["id"]] = item
    sources = [_source(sandbox, call, subscription, item) for item in by_id.values()]
    end = min((item["current_period_end"] for item in by_id.values()), default=at)
    return sources, end


def _changed(sandbox: Sandbox, call: Call, change: dict[str, Any], where: str) -> Doc:
    """Returns the changed price and quantity of an item."""
    changed: Doc = {}
    if "price" in change:
        price = sandbox.find(call.world, "price", change["price"], param=f"{where}[price]")
        changed["price"] = price["id"]
    if "quantity" in change:
        changed["quantity"] = int(change["quantity"])
    return changed


def _new_item(sandbox: Sandbox, call: Call, change: dict[str, Any], at: int, where: str) -> Doc:
    """Returns an item that does not exist: a what-if."""
    if "price" not in change:
        raise missing_param(f"{where}[price]")
    price = sandbox.find(call.world, "price", change["price"], param=f"{where}[price]")
    recurring = price["recurring"]
    if recurring is None:
        raise Failure("The price specified is set to `type=one_time`.", param=f"{where}[price]")
    if recurring["usage_type"] == "metered" and "quantity" in change:
        raise Failure(
            "Usage-based prices cannot have a quantity: usage is reported through the meter.",
            param=f"{where}[quantity]",
        )
    start, end = period_at(at, recurring["interval"], recurring["interval_count"], at)
    return {
        "id": new_id("si", 14),
        "price": price["id"],
        "quantity": int(change["quantity"]) if "quantity" in change else 1,
        "subscription": None,
        "current_period_start": start,
        "current_period_end": end,
        "_usage_from": start,
    }


def _source(sandbox: Sandbox, call: Call, subscription: Doc | None, item: Doc) -> Doc:
    """Returns the source of an item: usage of this period, or the quantity of the next."""
    price = sandbox.find(call.world, "price", item["price"])
    recurring = price["recurring"]
    start, end = item["current_period_start"], item["current_period_end"]
    if recurring["usage_type"] == "metered":
        return source_of_item(item, start=item["_usage_from"], end=end, quantity=None)
    if subscription is not None and item["subscription"] is not None:
        start, end = period_at(
            subscription["billing_cycle_anchor"],
            recurring["interval"],
            recurring["interval_count"],
            end,
        )
    return source_of_item(item, start=start, end=end, quantity=item.get("quantity", 1))


def _pending_sources(sandbox: Sandbox, call: Call, subscription: Doc | None) -> list[Doc]:
    if subscription is None:
        return []
    return [
        pending["source"]
        for pending in sandbox.store.all(call.world.name, "pending_invoice_item")
        if pending["subscription"] == subscription["id"]
    ]


def _invoice_item_source(sandbox: Sandbox, call: Call, row: dict[str, Any], at: int) -> Doc:
    """Returns the source of an `invoice_items` row: a price and quantity, or an amount."""
    source: Doc = {
        "id": new_id("il"),
        "item": None,
        "subscription": None,
        "start": at,
        "end": at,
        "proration": False,
        "invoice_item": row.get("invoiceitem") or new_id("ii"),
    }
    if "price" in row:
        price = sandbox.find(call.world, "price", row["price"], param="invoice_items[price]")
        quantity = row.get("quantity_decimal", row.get("quantity", 1))
        return source | {"price": price["id"], "quantity": format(Decimal(str(quantity)), "f")}
    if "amount" not in row:
        raise missing_param("invoice_items[amount]")
    return source | {"amount": int(row["amount"]), "description": row.get("description")}
