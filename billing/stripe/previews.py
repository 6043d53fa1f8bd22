"""Asks Stripe what a quantity costs: a licensed twin of a price, and a preview of an invoice.

Metered prices take no quantity in a preview, so the twin has the same amounts with
``usage_type=licensed`` (docs.stripe.com/api/invoices/create_preview). Nothing is billed.
"""

from dataclasses import dataclass
from typing import Any

from billing.stripe.client import client_for, options_for
from billing.stripe.errors import reading


@dataclass(frozen=True, slots=True)
class Preview:
    """What Stripe's own arithmetic says, in minor units, and in how many lines."""

    total: int
    lines: int


def make_product(*, mode: str, account: str) -> str:
    """A product for twins; its id."""
    params: Any = {"name": "StripeMeter price check (not for sale)"}
    return str(reading(client_for(mode).v1.products.create, params, options_for(account)).id)


def make_twin(*, mode: str, account: str, product: str, amounts: dict[str, Any]) -> str:
    """A licensed monthly price with ``amounts``; its id."""
    params: Any = {
        **amounts,
        "product": product,
        "recurring": {"interval": "month", "usage_type": "licensed"},
        "nickname": "twin",
    }
    return str(reading(client_for(mode).v1.prices.create, params, options_for(account)).id)


def preview(*, mode: str, account: str, price: str, currency: str, quantity: int) -> Preview:
    """The invoice of ``quantity`` at ``price``, for nobody in particular."""
    params: Any = {
        "currency": currency.lower(),
        "customer_details": {"address": {"country": "US"}},
        "subscription_details": {"items": [{"price": price, "quantity": quantity}]},
    }
    found = reading(client_for(mode).v1.invoices.create_preview, params, options_for(account))
    return Preview(int(found.total), len(found.lines.data))


def archive(*, mode: str, account: str, product: str, prices: list[str]) -> None:
    """Take twins and their product out of the way; prices cannot be deleted."""
    client, options = client_for(mode), options_for(account)
    for price in prices:
        reading(client.v1.prices.update, price, {"active": False}, options)
    reading(client.v1.products.update, product, {"active": False}, options)
