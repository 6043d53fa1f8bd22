"""Reads prices from Stripe, tiers and currency options included."""

from typing import Any

from billing.stripe.client import client_for, options_for
from billing.stripe.errors import reading
from stripemeter.lib import strictjson


def fetch_price(*, mode: str, account: str, price_id: str) -> dict[str, Any]:
    """Stripe's Price object, as plain values with Decimals as text.

    ``tiers`` and ``currency_options`` come only when expanded (docs.stripe.com/api/prices).
    Raises `StripeUnavailable`, `StripeRefused`, `KeyMissing` and `KeyOfWrongMode`.
    """
    price = reading(
        client_for(mode).v1.prices.retrieve,
        price_id,
        {"expand": ["tiers", "currency_options"]},
        options_for(account),
    )
    found = strictjson.loads(strictjson.dumps(price.to_dict(), decimals_as_text=True))
    assert isinstance(found, dict)
    return found
