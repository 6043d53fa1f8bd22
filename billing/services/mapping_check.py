"""Holds a mapping that is being written against Stripe's mirror and real usage; writes nothing.

What is found here warns; what must not be stored is refused by `mappings` itself.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import F

from billing import formulas
from billing.models import Mode, PriceMapping
from billing.pricing import (
    Price,
    PricingError,
    Rater,
    RuleSet,
    price_from_config,
    price_from_stripe,
)
from billing.pricing.numbers import major
from billing.projection import billed_units
from billing.stripe import meters, mirror, reading
from billing.stripe.client import KeyMissing, KeyOfWrongMode
from billing.stripe.errors import StripeRefused, StripeUnavailable
from counters.models import Counter
from ledger.models import Metric
from stripemeter.lib.decimals import EXACT

PREVIEW_ROWS = 8
GOOD, WARN, BAD = "good", "warn", "bad"
#: Where a counter keeps the number of each aggregation.
_COLUMNS = {
    "sum": "sum", "count": "event_count", "max": "max", "min": "min", "last": "last",
    "unique": "unique_count",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: good, warn or bad, and what was found."""

    tone: str
    text: str


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """What one customer's running period would say and cost under the mapping."""

    customer_ref: str
    quantity: Decimal
    units: Decimal
    #: Units of the metric that make no whole step.
    carry: Decimal
    amount: Decimal | None


@dataclass(frozen=True, slots=True)
class Preview:
    """The largest customers of the metric, in the currency of the price."""

    rows: list[PreviewRow]
    customers: int
    currency: str


def check(
    *, tenant_id: int, metric: str, values: dict[str, Any], now: datetime
) -> tuple[list[Check], Preview]:
    """Checks of both sides, and the mapping's effect on usage of running periods."""
    draft = _draft(values)
    checks = _side(draft, metric, Mode.LIVE)
    if draft.shadow:
        checks += _side(draft, metric, Mode.TEST)
    return checks, _preview(tenant_id, metric, draft, now)


def _draft(values: dict[str, Any]) -> PriceMapping:
    """A mapping that is never saved, with defaults where nothing was said."""
    known = {field.attname for field in PriceMapping._meta.concrete_fields}
    return PriceMapping(**{name: value for name, value in values.items() if name in known})


def _side(draft: PriceMapping, metric: str, mode: str) -> list[Check]:
    live = mode == Mode.LIVE
    side = "" if live else "Shadow: "
    account = draft.stripe_account if live else draft.shadow_stripe_account
    price_id = draft.price_id if live else draft.shadow_price_id
    item_id = draft.subscription_item_id if live else draft.shadow_subscription_item_id
    document = mirror.document_of("price", price_id or "")
    if document is None:
        text = f"{side}{price_id} is not in the mirror; run stripe_sync, or it is unknown to Stripe"
        return [Check(WARN, text)]
    checks = _price_checks(draft, document, side, mode)
    if draft.push_semantics == "usage_record":
        items = {str(each["id"]) for each in mirror.items_of_price(price_id or "")}
        if item_id and item_id not in items:
            checks.append(Check(BAD, f"{side}{item_id} is no item of this price"))
        return checks
    return checks + _meter_checks(draft, metric, document, side, mode, account or "default")


def _price_checks(
    draft: PriceMapping, document: dict[str, Any], side: str, mode: str
) -> list[Check]:
    recurring = document.get("recurring") or {}
    checks = []
    if document.get("livemode") is not (mode == Mode.LIVE):
        checks.append(Check(BAD, f"{side}the price belongs to the other mode"))
    if document.get("deleted") or not document.get("active"):
        checks.append(Check(BAD, f"{side}the price is archived"))
    if recurring.get("usage_type") != "metered":
        checks.append(Check(BAD, f"{side}the price is not metered: usage never reaches a bill"))
    currencies = {document.get("currency"), *(document.get("currency_options") or {})}
    if draft.currency and draft.currency not in currencies:
        checks.append(Check(BAD, f"{side}the price has no amounts in {draft.currency.upper()}"))
    if not checks:
        every = f"{recurring.get('interval_count', 1)} {recurring.get('interval', '')}"
        checks.append(Check(GOOD, f"{side}the price is active and metered, every {every}"))
    return checks


def _meter_checks(
    draft: PriceMapping, metric: str, document: dict[str, Any], side: str, mode: str, account: str
) -> list[Check]:
    wanted = draft.stripe_meter_event_name or metric
    try:
        meter = meters.find_meter(mode=mode, account=account, event_name=wanted)
    except (StripeUnavailable, StripeRefused, KeyMissing, KeyOfWrongMode) as error:
        return [Check(WARN, f"{side}the meter could not be read: {error}")]
    if meter is None:
        return [Check(BAD, f"{side}Stripe has no meter for the event name {wanted}")]
    checks = []
    priced_by = (document.get("recurring") or {}).get("meter")
    if priced_by and priced_by != meter["id"]:
        text = f"{side}the price is billed by another meter ({priced_by}), not by {wanted}"
        checks.append(Check(BAD, text))
    if meter["status"] != "active":
        checks.append(Check(BAD, f"{side}the meter {wanted} is archived"))
    reason = formulas.meter_refusal(draft.push_semantics, meter)
    if reason is not None:
        checks.append(Check(BAD, f"{side}{reason}"))
    return checks or [Check(GOOD, f"{side}the meter {wanted} takes what will be sent")]


def _price(draft: PriceMapping) -> Price | None:
    try:
        if draft.local_price is not None:
            return price_from_config(draft.local_price, rules=RuleSet.STRIPE)
        document = mirror.document_of("price", draft.price_id)
        if document is None:
            return None
        return price_from_stripe(document, currency=draft.currency)
    except PricingError:
        return None


def _preview(tenant_id: int, metric: str, draft: PriceMapping, now: datetime) -> Preview:
    found = Metric.objects.filter(tenant_id=tenant_id, name=metric).first()
    if found is None:
        return Preview([], 0, "")
    counters = Counter.objects.filter(
        tenant_id=tenant_id, metric_id=found.pk, period_start__lte=now, period_end__gt=now
    )
    price = _price(draft)
    rater = Rater(price, RuleSet.STRIPE) if price is not None else None
    rows = []
    largest = F(_COLUMNS[draft.aggregation]).desc(nulls_last=True)
    for counter in counters.order_by(largest, "customer_ref")[:PREVIEW_ROWS]:
        quantity = _total(counter, draft.aggregation) + counter.adjusted
        units = max(billed_units(quantity, draft), Decimal(0))
        carry = EXACT.subtract(quantity, EXACT.multiply(units, Decimal(draft.unit_factor)))
        amount = None
        if rater is not None and price is not None:
            try:
                amount = major(rater.amount(units), price.exponent)
            except PricingError:
                rater = None
        rows.append(PreviewRow(counter.customer_ref, quantity, units, carry, amount))
    return Preview(rows, counters.count(), price.currency if price else "")


def _total(counter: Counter, aggregation: str) -> Decimal:
    return Decimal(getattr(counter, _COLUMNS[aggregation]) or 0)


def known_prices(*, mode: str) -> list[dict[str, Any]]:
    """Metered prices of the key's own account in the mirror, for the form's suggestions."""
    try:
        own = reading.own_account(mode=mode)
    except (StripeUnavailable, StripeRefused, KeyMissing, KeyOfWrongMode):
        return []
    return mirror.prices(account_id=own, mode=mode)
