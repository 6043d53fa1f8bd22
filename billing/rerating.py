"""The tenant's own past as what-if input: usage from the counters, prices from the mappings.

Quantities become billed units exactly as the projection makes them, so that today's prices
rate a period to what the projection says of it. Reads only.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, LiteralString

from django.db import connection

from billing.models import PriceMapping
from billing.pricing import Price, RuleSet, price_from_config, price_from_stripe
from billing.pricing.errors import InvalidField, MixedCurrencies
from billing.pricing.numbers import half_up, multiply, scale
from billing.pricing.reading import Fields, at
from billing.pricing.simulator import read_terms
from billing.projection import PriceBook, billed_units, price_book
from billing.simulation.whatif import PriceSet, UsageRow
from ledger.models import Metric
from stripemeter.lib.decimals import NotANumber, decimal_of

CUSTOMERS_PER_CHUNK = 2_000
_CHANGE_FIELDS = frozenset({"changePercent"})
_TERMS = ("fixedFee", "minimumSpend", "coupons")
_READABLE = frozenset({"coupons", "commitments", "credits", "fixed_fees", "minimum_spend"})

_CUSTOMERS: LiteralString = """
SELECT DISTINCT customer_ref FROM counters_counter
WHERE tenant_id = %(tenant)s AND period_start >= %(since)s AND period_end <= %(until)s
ORDER BY 1
"""
_USAGE: LiteralString = """
SELECT customer_ref, period_start, period_end, metric_id,
       sum, event_count, max, min, last, unique_count, adjusted
FROM counters_counter
WHERE tenant_id = %(tenant)s AND customer_ref >= %(first)s AND customer_ref <= %(last)s
  AND period_start >= %(since)s AND period_end <= %(until)s
"""
_COLUMN = {"sum": 4, "count": 5, "max": 6, "min": 7, "last": 8, "unique": 9}


@dataclass(frozen=True, slots=True)
class Billed:
    """A mapping, or a metric that only the proposal prices, under the name it has in results."""

    label: str
    metric_id: int
    aggregation: str
    mapping: PriceMapping | None

    @property
    def names(self) -> set[str]:
        """How a proposal may name it."""
        return {self.label} | ({self.mapping.metric.name} if self.mapping else set())

    def units(self, row: tuple[Any, ...]) -> Decimal:
        """What the projection would bill of a counter: whole steps, never below zero."""
        found = row[_COLUMN[self.aggregation]]
        quantity: Decimal = Decimal(0 if found is None else found) + row[10]
        if self.mapping is None:
            return max(quantity, Decimal(0))
        return max(billed_units(quantity, self.mapping), Decimal(0))

    def is_in_force(self, start: datetime, end: datetime) -> bool:
        """Whether the mapping's segment meets the period."""
        mapping = self.mapping
        return mapping is None or (
            (mapping.effective_from is None or mapping.effective_from < end)
            and (mapping.effective_to is None or mapping.effective_to > start)
        )


@dataclass(frozen=True, slots=True)
class Question:
    """Two price sets over what is billed; what could not be compared is named."""

    billed: list[Billed]
    current: PriceSet
    proposed: PriceSet
    #: Metrics whose price is unknown or in another currency.
    left_out: list[str]


def read_question(*, tenant_id: int, document: Mapping[str, Any]) -> Question:
    """The tenant's prices against those of ``document``. Raises `PricingError`.

    ``prices`` maps metrics to a price config, to a Stripe Price object, or to
    ``{"changePercent": 10}``. What it does not name keeps its price.
    """
    book = price_book(tenant_id=tenant_id)
    wanted = document.get("prices")
    if not isinstance(wanted, Mapping) or not wanted:
        raise InvalidField("must be an object of prices by metric", path="prices")
    billed = _billed(book)
    currency = _currency(document, book)
    current: dict[str, Price] = {}
    left_out = []
    for each in billed:
        price = book.prices[each.mapping.pk] if each.mapping else None
        if price is None or price.currency != currency:
            left_out.append(each.label)
        else:
            current[each.label] = price
    proposed = dict(current)
    for metric, change in wanted.items():
        _apply(str(metric), change, billed, current, proposed, tenant_id)
    terms = _terms(document, next(iter(proposed.values())).exponent if proposed else 2)
    if not current:
        raise InvalidField("no mapped metric has a known price in this currency", path="currency")
    return Question(billed, PriceSet(current), PriceSet(proposed, **terms), left_out)


def _billed(book: PriceBook) -> list[Billed]:
    names = [mapping.metric.name for mapping in book.mappings]
    return [
        Billed(
            mapping.metric.name
            if names.count(mapping.metric.name) == 1
            else f"{mapping.metric.name} ({mapping.price_id})",
            mapping.metric_id,
            mapping.aggregation,
            mapping,
        )
        for mapping in book.mappings
    ]


def _currency(document: Mapping[str, Any], book: PriceBook) -> str:
    named = document.get("currency")
    if named is not None:
        if not isinstance(named, str):
            raise InvalidField("must be a currency code", path="currency")
        return named.upper()
    found = [price.currency for price in book.prices.values() if price is not None]
    if not found:
        raise InvalidField("no mapped metric has a known price", path="prices")
    return max(set(found), key=lambda code: (found.count(code), code))


def _apply(
    metric: str,
    change: Any,
    billed: list[Billed],
    current: Mapping[str, Price],
    proposed: dict[str, Price],
    tenant_id: int,
) -> None:
    path = f"prices.{metric}"
    mine = [each for each in billed if metric in each.names]
    percent = _percent(change, path)
    if percent is not None:
        known = [each.label for each in mine if each.label in current]
        if not known:
            raise InvalidField("has no known price to change", path=path)
        for label in known:
            proposed[label] = scaled(current[label], percent)
        return
    price = _price(change, path)
    for other in current.values():
        if (price.currency, price.exponent) != (other.currency, other.exponent):
            raise MixedCurrencies(f"{price.currency} against {other.currency}", path=path)
    if not mine:
        found = Metric.objects.filter(tenant_id=tenant_id, name=metric).first()
        if found is None or found.aggregation not in _COLUMN:
            raise InvalidField("is no metric of the tenant", path=path)
        mine = [Billed(metric, found.pk, found.aggregation, None)]
        billed += mine
    for each in mine:
        proposed[each.label] = price


def _percent(change: Any, path: str) -> Decimal | None:
    if not isinstance(change, Mapping) or not _CHANGE_FIELDS & set(change):
        return None
    if set(change) != _CHANGE_FIELDS:
        raise InvalidField("changePercent stands alone", path=path)
    try:
        percent = decimal_of(change["changePercent"])
    except NotANumber as error:
        raise InvalidField("must be a number", path=f"{path}.changePercent") from error
    if not -100 <= percent <= 1_000_000:
        raise InvalidField("must lie between -100 and 1000000", path=f"{path}.changePercent")
    return percent


def _price(change: Any, path: str) -> Price:
    if isinstance(change, Mapping) and "billing_scheme" in change:
        with at(path):
            return price_from_stripe(dict(change))
    return price_from_config(change, rules=RuleSet.STRIPE, path=path)


def scaled(price: Price, percent: Decimal) -> Price:
    """``price`` with every amount changed by ``percent``."""
    factor = (Decimal(100) + percent).scaleb(-2)

    def new(amount: Decimal) -> Decimal:
        return multiply(amount, factor)

    return replace(
        price,
        unit_amount=new(price.unit_amount),
        tiers=tuple(
            replace(t, unit_amount=new(t.unit_amount), flat_amount=new(t.flat_amount))
            for t in price.tiers
        ),
        minimum=None if price.minimum is None else new(price.minimum),
        maximum=None if price.maximum is None else new(price.maximum),
    )


def _terms(document: Mapping[str, Any], exponent: int) -> dict[str, Any]:
    """Terms of the proposal alone: a fixed fee, a minimum spend, coupons."""
    given = {name: document[name] for name in _TERMS if name in document}
    if not given:
        return {}
    fields = Fields(given, "", frozenset({"fixed_fee", "minimum_spend", "coupons"}))
    fee, least = fields.amount("fixed_fee"), fields.amount("minimum_spend")
    coupons = Fields({k: v for k, v in given.items() if k == "coupons"}, "", _READABLE)
    return {
        "fixed_fee_minor": half_up(scale(fee, exponent)) if fee is not None else 0,
        "minimum_spend_minor": half_up(scale(least, exponent)) if least is not None else 0,
        "coupons": read_terms(coupons, exponent)["coupons"],
    }


def customers_with_usage(*, tenant_id: int, since: datetime, until: datetime) -> list[str]:
    """Every customer with a counter in whole periods of the range, by reference."""
    with connection.cursor() as cursor:
        cursor.execute(_CUSTOMERS, {"tenant": tenant_id, "since": since, "until": until})
        return [row[0] for row in cursor.fetchall()]


def usage_rows(
    *,
    tenant_id: int,
    customers: list[str],
    since: datetime,
    until: datetime,
    billed: list[Billed],
) -> Iterator[UsageRow]:
    """The billed units of ``customers`` (a sorted stretch of all of them) in the range."""
    by_metric: dict[int, list[Billed]] = {}
    for each in billed:
        by_metric.setdefault(each.metric_id, []).append(each)
    with connection.cursor() as cursor:
        cursor.execute(
            _USAGE,
            {
                "tenant": tenant_id,
                "first": customers[0],
                "last": customers[-1],
                "since": since,
                "until": until,
            },
        )
        for row in cursor.fetchall():
            label = row[1].date().isoformat()
            for each in by_metric.get(row[3], ()):
                if each.is_in_force(row[1], row[2]):
                    yield UsageRow(row[0], label, each.label, each.units(row))
