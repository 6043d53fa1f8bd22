"""Invoices: what is on them, and their way from draft to paid.

A draft keeps *sources*, not lines: metered lines are computed from the usage
recorded so far each time the draft is read, and fixed when it is finalised.
Usage that arrives later is on no invoice (DOC, grace period).
"""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal
from typing import Any

from billing.stripe_sandbox import usage_records
from billing.stripe_sandbox.answers import emit, renderer
from billing.stripe_sandbox.engine import Call, Sandbox, World, new_id
from billing.stripe_sandbox.errors import Failure
from billing.stripe_sandbox.metering import usage_between
from billing.stripe_sandbox.pricing import Charge, charges, merged
from billing.stripe_sandbox.store import Doc

LINES_SHOWN = 10
GRACE_SECONDS_MAX = 72 * 3_600
QUANTITY_PLACES_MAX = 12


def source_of_item(
    item: Doc, *, start: int, end: int, quantity: int | None, proration: bool = False
) -> Doc:
    """Returns the source of one subscription item's line.

    `quantity` is None for a metered item: usage in [start, end) decides.
    """
    return {
        "id": new_id("il"),
        "price": item["price"],
        "item": item["id"],
        "subscription": item["subscription"],
        "start": start,
        "end": end,
        "quantity": quantity,
        "proration": proration,
        "invoice_item": None,
    }


def new_invoice(
    sandbox: Sandbox,
    world: World,
    *,
    customer: Doc,
    currency: str,
    sources: list[Doc],
    at: int,
    reason: str,
    period: tuple[int, int],
    subscription: Doc | None = None,
    collection_method: str = "charge_automatically",
    auto_advance: bool = True,
) -> Doc:
    """Returns a draft invoice, not stored yet: previews use it too."""
    grace = min(int(sandbox.settings["finalization_grace_seconds"]), GRACE_SECONDS_MAX)
    parent = None
    if subscription is not None:
        parent = {
            "quote_details": None,
            "subscription_details": {
                "metadata": subscription["metadata"],
                "subscription": subscription["id"],
            },
            "type": "subscription_details",
        }
        collection_method = subscription["collection_method"]
    invoice = _blank(world, customer, at)
    invoice |= {
        "auto_advance": auto_advance,
        "automatically_finalizes_at": at + grace if auto_advance else None,
        "billing_reason": reason,
        "collection_method": collection_method,
        "currency": currency,
        "parent": parent,
        "period_start": period[0],
        "period_end": period[1],
        "_subscription": subscription["id"] if subscription else None,
        "_days_until_due": (subscription or {}).get("days_until_due"),
        "_sources": sources,
    }
    return invoice


def _blank(world: World, customer: Doc, at: int) -> Doc:
    """Returns the fields that start the same on every invoice."""
    return {
        "id": new_id("in"),
        "object": "invoice",
        "account_country": "US",
        "account_name": "StripeMeter sandbox",
        "account_tax_ids": None,
        "amount_due": 0,
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_paid_off_stripe": 0,
        "amount_remaining": 0,
        "amount_shipping": 0,
        "application": None,
        "attempt_count": 0,
        "attempted": False,
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        "created": at,
        "custom_fields": None,
        "customer": customer["id"],
        "customer_account": None,
        "customer_address": customer["address"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_shipping": customer["shipping"],
        "customer_tax_exempt": customer["tax_exempt"],
        "customer_tax_ids": [],
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "due_date": None,
        "effective_at": None,
        "ending_balance": None,
        "footer": None,
        "from_invoice": None,
        "hosted_invoice_url": None,
        "invoice_pdf": None,
        "issuer": {"type": "self"},
        "last_finalization_error": None,
        "latest_revision": None,
        "livemode": world.livemode,
        "metadata": {},
        "next_payment_attempt": None,
        "number": None,
        "on_behalf_of": None,
        "payment_settings": {
            "default_mandate": None,
            "payment_method_options": None,
            "payment_method_types": None,
        },
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "receipt_number": None,
        "rendering": None,
        "shipping_cost": None,
        "shipping_details": None,
        "starting_balance": 0,
        "statement_descriptor": None,
        "status": "draft",
        "status_transitions": {
            "finalized_at": None,
            "marked_uncollectible_at": None,
            "paid_at": None,
            "voided_at": None,
        },
        "subtotal": 0,
        "subtotal_excluding_tax": 0,
        "test_clock": customer["test_clock"],
        "total": 0,
        "total_discount_amounts": [],
        "total_excluding_tax": 0,
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        "webhooks_delivered_at": None,
    }


def usage_of(sandbox: Sandbox, world: World, source: Doc, customer: str) -> Decimal:
    """Returns the quantity of a source: fixed, from the meter, or from usage records."""
    if source["quantity"] is not None:
        return Decimal(str(source["quantity"]))
    price = sandbox.find(world, "price", source["price"])
    meter_id = price["recurring"]["meter"]
    start, end = source["start"], source["end"]
    if meter_id is None:
        return usage_records.usage_between(sandbox, world, source["item"], start, end)
    meter = sandbox.find(world, "meter", meter_id)
    # The clamp is on the period's total, at invoicing (DOC meters/configure).
    return max(usage_between(sandbox, world, meter, customer, start, end), Decimal())


def lines_of(sandbox: Sandbox, world: World, invoice: Doc) -> list[Doc]:
    """Returns the lines: computed while a draft, as they were fixed afterwards."""
    fixed: list[Doc] | None = invoice.get("_lines")
    if fixed is not None:
        return fixed
    lines: list[Doc] = []
    for source in invoice["_sources"]:
        lines.extend(_lines_of_source(sandbox, world, invoice, source))
    return lines


def _lines_of_source(sandbox: Sandbox, world: World, invoice: Doc, source: Doc) -> list[Doc]:
    """Returns the lines of one source; one per item, or per tier when set so (unverified)."""
    if "amount" in source:
        charge = Charge(Decimal(1), Decimal(source["amount"]), str(source["amount"]))
        return [_line(world, invoice, source, charge, None, source["description"])]
    price = sandbox.find(world, "price", source["price"])
    quantity = usage_of(sandbox, world, source, invoice["customer"])
    parts = charges(price, invoice["currency"], quantity)
    if sandbox.settings["graduated_lines"] != "per_tier" or len(parts) == 1:
        parts = [merged(parts)]
    product = sandbox.store.get(world.name, "product", price["product"]) or {"name": "Usage"}
    lines = []
    for number, part in enumerate(parts):
        words = f"{_plain(part.quantity)} × {product['name']}"
        if len(parts) > 1:
            words += f" ({part.label})"
        line = _line(world, invoice, source, part, price, words)
        if number:
            line["id"] = f"{line['id']}t{number}"
        lines.append(line)
    return lines


def _plain(quantity: Decimal) -> str:
    """Returns the quantity in plain notation, at most 12 places, no trailing zeros."""
    places = Decimal(1).scaleb(-QUANTITY_PLACES_MAX)
    if quantity != quantity.to_integral_value():
        quantity = quantity.quantize(places, rounding=ROUND_DOWN)
    text = format(quantity, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _line(
    world: World, invoice: Doc, source: Doc, part: Charge, price: Doc | None, words: str
) -> Doc:
    """Returns one line in Stripe's shape."""
    amount = part.rounded
    pricing = None
    if price is not None:
        pricing = {
            "price_details": {"price": price["id"], "product": price["product"]},
            "type": "price_details",
            "unit_amount_decimal": part.unit_amount if price["tiers_mode"] is None else None,
        }
    return {
        "id": source["id"],
        "object": "line_item",
        "amount": amount,
        "currency": invoice["currency"],
        "description": words,
        "discount_amounts": [],
        "discountable": True,
        "discounts": [],
        "invoice": invoice["id"],
        "livemode": world.livemode,
        "metadata": {},
        "parent": _parent_of_line(source),
        "period": {"start": source["start"], "end": source["end"]},
        "pretax_credit_amounts": [],
        "pricing": pricing,
        "quantity": int(part.quantity),
        "quantity_decimal": _plain(part.quantity),
        "subtotal": amount,
        "taxes": [],
    }


def _parent_of_line(source: Doc) -> Doc:
    """Returns where a line comes from: a subscription item or an invoice item."""
    details: dict[str, Any] = {
        "invoice_item": source["invoice_item"],
        "proration": source["proration"],
        "proration_details": {"credited_items": None},
        "subscription": source["subscription"],
    }
    if source["invoice_item"] is not None:
        return {
            "invoice_item_details": details,
            "subscription_item_details": None,
            "type": "invoice_item_details",
        }
    return {
        "invoice_item_details": None,
        "subscription_item_details": details | {"subscription_item": source["item"]},
        "type": "subscription_item_details",
    }


@renderer("invoice")
def render_invoice(sandbox: Sandbox, world: World, invoice: Doc) -> Doc:
    """Returns an invoice with its first lines and sums, computed while it is a draft."""
    lines = lines_of(sandbox, world, invoice)
    shown = dict(invoice)
    if invoice["status"] == "draft":
        shown |= _sums(lines)
    shown["lines"] = {
        "object": "list",
        "data": lines[:LINES_SHOWN],
        "has_more": len(lines) > LINES_SHOWN,
        "total_count": len(lines),
        "url": f"/v1/invoices/{invoice['id']}/lines",
    }
    return shown


def _sums(lines: list[Doc]) -> Doc:
    """Returns the amounts of an invoice from its lines; nothing below 0 is due."""
    total = sum(line["amount"] for line in lines)
    due = max(total, 0)
    return {
        "subtotal": total,
        "subtotal_excluding_tax": total,
        "total": total,
        "total_excluding_tax": total,
        "amount_due": due,
        "amount_remaining": due,
    }


def store_new(sandbox: Sandbox, world: World, invoice: Doc, *, call: Call | None = None) -> Doc:
    """Stores a draft, names it on its subscription, and emits `invoice.created`."""
    sandbox.store.put(world.name, "invoice", invoice)
    subscription = invoice["_subscription"]
    if subscription:
        doc = sandbox.find(world, "subscription", subscription)
        sandbox.store.put(world.name, "subscription", doc | {"latest_invoice": invoice["id"]})
    event = emit(sandbox, world, "invoice.created", "invoice", invoice, call=call)
    if not event["pending_webhooks"]:
        invoice = invoice | {"webhooks_delivered_at": invoice["created"]}
        sandbox.store.put(world.name, "invoice", invoice)
    return invoice


def finalize(
    sandbox: Sandbox, world: World, invoice: Doc, *, at: int, call: Call | None = None
) -> Doc:
    """Fixes lines and sums, gives the number, and collects when it is to be collected."""
    if invoice["status"] != "draft":
        raise Failure(
            f"This invoice is already finalized, you can't re-finalize a non-draft invoice: "
            f"{invoice['id']}.",
            code="invoice_not_editable",
        )
    lines = lines_of(sandbox, world, invoice)
    customer = sandbox.store.get(world.name, "customer", invoice["customer"])
    number = None
    if customer is not None:
        sequence = customer["next_invoice_sequence"]
        number = f"{customer['invoice_prefix']}-{sequence:04d}"
        sandbox.store.put(
            world.name, "customer", customer | {"next_invoice_sequence": sequence + 1}
        )
    days = invoice["_days_until_due"]
    doc = invoice | _sums(lines)
    doc |= {
        "_lines": lines,
        "status": "open",
        "automatically_finalizes_at": None,
        "effective_at": at,
        "ending_balance": 0,
        "hosted_invoice_url": f"https://invoice.stripe.com/i/{invoice['id']}",
        "number": number,
        "due_date": at + days * 86_400 if days else None,
        "status_transitions": invoice["status_transitions"] | {"finalized_at": at},
    }
    sandbox.store.put(world.name, "invoice", doc)
    emit(sandbox, world, "invoice.finalized", "invoice", doc, call=call)
    return _collect(sandbox, world, doc, at=at, call=call)


def _collect(sandbox: Sandbox, world: World, doc: Doc, *, at: int, call: Call | None) -> Doc:
    """Pays what is charged automatically or is nothing; fails when set so."""
    if doc["amount_due"] == 0:
        return pay(sandbox, world, doc, at=at, call=call)
    if doc["collection_method"] != "charge_automatically" or not doc["auto_advance"]:
        return doc
    if sandbox.settings["invoice_payment"] == "succeed":
        return pay(sandbox, world, doc, at=at, call=call)
    doc = sandbox.store.put(
        world.name,
        "invoice",
        doc | {"attempted": True, "attempt_count": 1, "next_payment_attempt": at + 3 * 86_400},
    )
    emit(sandbox, world, "invoice.payment_failed", "invoice", doc, call=call)
    return doc


def pay(sandbox: Sandbox, world: World, doc: Doc, *, at: int, call: Call | None = None) -> Doc:
    """Marks an open invoice paid in full."""
    if doc["status"] not in ("open", "uncollectible"):
        raise Failure("Invoice is already paid" if doc["status"] == "paid" else NOT_OPEN)
    paid = doc["amount_due"]
    doc = doc | {
        "status": "paid",
        "amount_paid": paid,
        "amount_remaining": 0,
        "attempted": True,
        "attempt_count": doc["attempt_count"] + (1 if paid else 0),
        "next_payment_attempt": None,
        "status_transitions": doc["status_transitions"] | {"paid_at": at},
    }
    sandbox.store.put(world.name, "invoice", doc)
    emit(sandbox, world, "invoice.paid", "invoice", doc, call=call)
    emit(sandbox, world, "invoice.payment_succeeded", "invoice", doc, call=call)
    return doc


NOT_OPEN = "You can only pay or void an open invoice."


def void(sandbox: Sandbox, world: World, doc: Doc, *, at: int, call: Call | None = None) -> Doc:
    """Voids an open invoice: nothing is due any more, for good."""
    if doc["status"] not in ("open", "uncollectible"):
        raise Failure(NOT_OPEN)
    doc = doc | {
        "status": "void",
        "amount_remaining": 0,
        "next_payment_attempt": None,
        "status_transitions": doc["status_transitions"] | {"voided_at": at},
    }
    sandbox.store.put(world.name, "invoice", doc)
    emit(sandbox, world, "invoice.voided", "invoice", doc, call=call)
    return doc
