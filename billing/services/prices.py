"""Keeps the prices that mappings name, in every version that Stripe has shown."""

import hashlib
from datetime import datetime
from typing import Any

from django.db import transaction

from billing.models import Mode, PriceMapping, PriceVersion
from billing.pricing import Price, PricingError, RuleSet, price_from_config, price_from_stripe
from billing.stripe.client import KeyMissing, KeyOfWrongMode
from billing.stripe.errors import StripeRefused, StripeUnavailable
from billing.stripe.prices import fetch_price
from stripemeter.lib import strictjson
from stripemeter.lib.logs import get_logger

log = get_logger(__name__)

#: What decides an amount; other members (metadata, nickname) may change freely.
_DECISIVE = (
    "billing_scheme",
    "currency",
    "currency_options",
    "recurring",
    "tax_behavior",
    "tiers",
    "tiers_mode",
    "transform_quantity",
    "unit_amount",
    "unit_amount_decimal",
)


def fingerprint_of(document: dict[str, Any]) -> str:
    """SHA-256 over the members of a Price object that decide an amount."""
    decisive = {name: document.get(name) for name in _DECISIVE}
    return hashlib.sha256(strictjson.canonical(decisive)).hexdigest()


@transaction.atomic
def store_price(
    *, account: str, mode: str, document: dict[str, Any], now: datetime
) -> PriceVersion:
    """The newest version of the price in ``document``; a new row only if it changed."""
    price_id = str(document["id"])
    newest = newest_version(account=account, mode=mode, price_id=price_id)
    fingerprint = fingerprint_of(document)
    if newest is not None and newest.fingerprint == fingerprint:
        return newest
    return PriceVersion.objects.create(
        account=account,
        mode=mode,
        price_id=price_id,
        fingerprint=fingerprint,
        document=document,
        seen_at=now,
    )


def newest_version(*, account: str, mode: str, price_id: str) -> PriceVersion | None:
    """The price as last seen, or None if it never was."""
    return (
        PriceVersion.objects.filter(account=account, mode=mode, price_id=price_id)
        .order_by("-seen_at", "-pk")
        .first()
    )


def refresh_prices(*, now: datetime) -> int:
    """Read every price that an active mapping names; how many could be read.

    A price that cannot be read keeps its last version; the reason is logged.
    """
    wanted: set[tuple[str, str, str]] = set()
    for mapping in PriceMapping.objects.filter(active=True):
        wanted.add((Mode.LIVE, mapping.stripe_account, mapping.price_id))
        if mapping.shadow and mapping.shadow_stripe_account and mapping.shadow_price_id:
            wanted.add((Mode.TEST, mapping.shadow_stripe_account, mapping.shadow_price_id))
    return sum(
        _refresh(mode=mode, account=account, price_id=price_id, now=now)
        for mode, account, price_id in sorted(wanted)
    )


def _refresh(*, mode: str, account: str, price_id: str, now: datetime) -> bool:
    try:
        document = fetch_price(mode=mode, account=account, price_id=price_id)
    except (StripeRefused, StripeUnavailable, KeyMissing, KeyOfWrongMode) as error:
        log.warning("price.unreadable", price_id=price_id, mode=mode, error=str(error))
        return False
    store_price(account=account, mode=mode, document=document, now=now)
    return True


def price_of(mapping: PriceMapping) -> Price | None:
    """The price that bills the mapping: its local one, else Stripe's as last seen.

    None while neither is known or the known one cannot be computed with.
    """
    try:
        if mapping.local_price is not None:
            return price_from_config(mapping.local_price, rules=RuleSet.STRIPE)
        version = newest_version(
            account=mapping.stripe_account, mode=Mode.LIVE, price_id=mapping.price_id
        )
        if version is None:
            return None
        return price_from_stripe(version.document, currency=mapping.currency)
    except PricingError as error:
        log.warning("price.unusable", mapping_id=str(mapping.pk), error=str(error))
        return None
