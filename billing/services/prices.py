"""Keeps the prices that mappings name, in every version that Stripe has shown."""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from billing.models import Mode, PriceMapping, PriceVersion
from billing.pricing import Price, PricingError, RuleSet, price_from_config, price_from_stripe
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


def same_terms(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two Price objects charge the same, whichever meters feed them."""

    def terms(document: dict[str, Any]) -> bytes:
        decisive = {name: document.get(name) for name in _DECISIVE}
        recurring = dict(decisive["recurring"] or {})
        recurring.pop("meter", None)
        return strictjson.canonical({**decisive, "recurring": recurring})

    return terms(one) == terms(other)


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


def price_of(mapping: PriceMapping) -> Price | None:
    """The price that bills the mapping: its local one, else Stripe's as last seen.

    None while neither is known or the known one cannot be computed with.
    """
    return prices_of([mapping])[mapping.pk]


def prices_of(mappings: Iterable[PriceMapping]) -> dict[UUID, Price | None]:
    """`price_of` for many mappings by id, in one query."""
    wanted = list(mappings)
    named = {(m.stripe_account, m.price_id) for m in wanted if m.local_price is None}
    newest: dict[tuple[str, str], PriceVersion] = {}
    if named:
        accounts, prices = zip(*sorted(named), strict=True)
        versions = PriceVersion.objects.filter(
            account__in=set(accounts), mode=Mode.LIVE, price_id__in=set(prices)
        )
        for version in versions.order_by("account", "price_id", "-seen_at", "-pk").distinct(
            "account", "price_id"
        ):
            newest[version.account, version.price_id] = version
    return {m.pk: _computable(m, newest.get((m.stripe_account, m.price_id))) for m in wanted}


def _computable(mapping: PriceMapping, version: PriceVersion | None) -> Price | None:
    try:
        if mapping.local_price is not None:
            return price_from_config(mapping.local_price, rules=RuleSet.STRIPE)
        if version is None:
            return None
        return price_from_stripe(version.document, currency=mapping.currency)
    except PricingError as error:
        log.warning("price.unusable", mapping_id=str(mapping.pk), error=str(error))
        return None
