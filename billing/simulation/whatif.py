"""What-if pricing: real usage rated at two price sets, and what that does to each customer.

Pure: usage comes in as rows, prices as values. Amounts are what the period's charges come to
after coupons, before commitments, credits and tax, in integer minor units; they are the same
integers that an invoice of the same usage shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import Final

from billing.pricing.errors import InvalidField, MixedCurrencies, PricingError, UnsupportedTerm
from billing.pricing.models import Price, RuleSet
from billing.pricing.numbers import ZERO, add, allocate, divide, half_up, multiply, scale
from billing.pricing.rating import Rater
from billing.pricing.terms import Coupon

# A customer this close below a border of the proposed prices, in percent of the border's quantity.
CLIFF_WITHIN_PERCENT: Final = Decimal(5)
CLIFFS_MAX: Final = 100

# Edges of the histogram of change per customer, in percent.
CHANGE_EDGES: Final = tuple(Decimal(edge) for edge in (-50, -20, -10, -5, 0, 5, 10, 20, 50))


@dataclass(frozen=True, slots=True)
class UsageRow:
    """The total of one metric of one customer in one period; `period` is any label."""

    customer: str
    period: str
    metric: str
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class PriceSet:
    """Prices per metric, with exceptions per (customer, metric), and terms of every period.

    `fixed_fee_minor` is charged for each customer-period that has usage; `minimum_spend_minor`
    lifts it; coupons apply last. All prices share one currency.
    """

    prices: Mapping[str, Price]
    rules: RuleSet = RuleSet.STRIPE
    overrides: Mapping[tuple[str, str], Price] = field(default_factory=dict)
    fixed_fee_minor: int = 0
    minimum_spend_minor: int = 0
    coupons: tuple[Coupon, ...] = ()

    def __post_init__(self) -> None:
        """One currency throughout; terms only where the rule set knows them."""
        found = {(price.currency, price.exponent) for price in self._all()}
        if len(found) > 1:
            listed = ", ".join(sorted(currency for currency, _ in found))
            raise MixedCurrencies(f"a price set has one currency, not {listed}", path="prices")
        if not found:
            raise InvalidField("names no price", path="prices")
        has_terms = self.fixed_fee_minor or self.minimum_spend_minor or self.coupons
        if has_terms and self.rules is RuleSet.COMPAT:
            raise UnsupportedTerm("fees, minimum spend and coupons need the rule set 'stripe'")

    def _all(self) -> list[Price]:
        return [*self.prices.values(), *self.overrides.values()]

    @property
    def currency(self) -> str:
        """The currency of every price."""
        return self._all()[0].currency

    @property
    def exponent(self) -> int:
        """Places of its minor unit."""
        return self._all()[0].exponent


class PeriodRater:
    """Rates customer-periods at a price set; built once, called for each."""

    def __init__(self, price_set: PriceSet) -> None:
        rules = price_set.rules
        self.price_set = price_set
        self._has_scopes = any(coupon.metrics is not None for coupon in price_set.coupons)
        self._raters = {m: _rater(price, rules, m) for m, price in price_set.prices.items()}
        self._overrides = {
            key: _rater(price, rules, key[1]) for key, price in price_set.overrides.items()
        }

    def rater(self, customer: str, metric: str) -> Rater | None:
        """The rater of a customer's metric; None where the set has no price for it."""
        if self._overrides:
            own = self._overrides.get((customer, metric))
            if own is not None:
                return own
        return self._raters.get(metric)

    def charge(self, customer: str, usage: Mapping[str, Decimal]) -> int:
        """What one customer-period comes to. Metrics without a price cost nothing."""
        lines: list[tuple[str, int]] = []
        total = self.price_set.fixed_fee_minor
        for metric, quantity in usage.items():
            rater = self.rater(customer, metric)
            if rater is not None:
                amount = rater.amount(quantity)
                lines.append((metric, amount))
                total += amount
        if self._has_scopes:
            return self._with_scopes(lines)
        true_up = max(0, self.price_set.minimum_spend_minor - total)
        for coupon in self.price_set.coupons:
            total -= min(_wanted(coupon, total), total)
        return total + true_up

    def cliff_watch(self) -> dict[int, list[tuple[Decimal, Decimal, int]]]:
        """Per rater (by identity) the stretches (from, border, jump) just below its cliffs."""
        near = divide(CLIFF_WITHIN_PERCENT, Decimal(100))
        return {
            id(rater): [
                (multiply(cliff.at, 1 - near), cliff.at, half_up(cliff.jump))
                for cliff in rater.cliffs()
                if half_up(cliff.jump)
            ]
            for rater in [*self._raters.values(), *self._overrides.values()]
        }

    def _with_scopes(self, lines: list[tuple[str, int]]) -> int:
        """Coupons that reach single metrics need every line's own remainder."""
        given = self.price_set
        amounts = [amount for _, amount in lines] + [given.fixed_fee_minor]
        true_up = max(0, given.minimum_spend_minor - sum(amounts))
        for coupon in given.coupons:
            _take_off(coupon, lines, amounts)
        return sum(amounts) + true_up


def _rater(price: Price, rules: RuleSet, metric: str) -> Rater:
    try:
        return Rater(price, rules)
    except PricingError as error:
        raise type(error)(error.detail, path=f"prices.{metric}.{error.path}".rstrip(".")) from None


def _wanted(coupon: Coupon, whole: int) -> int:
    """What a coupon takes off an amount that is large enough."""
    if coupon.percent_off is not None:
        return half_up(scale(multiply(Decimal(whole), coupon.percent_off), -2))
    return half_up(coupon.amount_off or ZERO)


def _take_off(coupon: Coupon, lines: Sequence[tuple[str, int]], amounts: list[int]) -> None:
    """Reduce `amounts` (the lines, then the fixed fee) exactly as an invoice would."""
    scope = [
        index
        for index in range(len(amounts))
        if coupon.metrics is None or (index < len(lines) and lines[index][0] in coupon.metrics)
    ]
    whole = sum(amounts[index] for index in scope)
    parts = allocate(min(_wanted(coupon, whole), whole), [amounts[index] for index in scope])
    for index, part in zip(scope, parts, strict=True):
        amounts[index] -= part


# -- the comparison --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CustomerDelta:
    """One customer over all periods; `percent` is None where there was nothing before."""

    customer: str
    periods: int
    before_minor: int
    after_minor: int

    @property
    def delta_minor(self) -> int:
        """After minus before."""
        return self.after_minor - self.before_minor

    @property
    def percent(self) -> Decimal | None:
        """The change in percent of before, to 2 places; None when before is zero."""
        return percent_change(self.before_minor, self.after_minor)


@dataclass(frozen=True, slots=True)
class NearCliff:
    """A customer-period just below a border at which the proposed total jumps."""

    customer: str
    period: str
    metric: str
    quantity: Decimal
    at: Decimal
    jump_minor: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """Customers whose change in percent lies in (`over`, `up_to`]; None is no bound.

    Unchanged customers have a bucket of their own (0, 0), as have customers who paid nothing
    before (`is_new`).
    """

    over: Decimal | None
    up_to: Decimal | None
    customers: int
    delta_minor: int
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What a price change does. `customers` is sorted by delta, largest increase first."""

    currency: str
    exponent: int
    customer_periods: int
    before_minor: int
    after_minor: int
    customers: tuple[CustomerDelta, ...]
    by_period: tuple[tuple[str, int, int], ...]
    distribution: tuple[Bucket, ...]
    quantiles: tuple[tuple[int, int], ...]
    cliffs: tuple[NearCliff, ...]
    unpriced_before: tuple[str, ...]
    unpriced_after: tuple[str, ...]

    @property
    def delta_minor(self) -> int:
        """Revenue after minus before."""
        return self.after_minor - self.before_minor

    @property
    def percent(self) -> Decimal | None:
        """Revenue change in percent."""
        return percent_change(self.before_minor, self.after_minor)

    @property
    def losers(self) -> tuple[CustomerDelta, ...]:
        """Customers who would pay more, the hardest hit first."""
        return tuple(item for item in self.customers if item.delta_minor > 0)

    @property
    def winners(self) -> tuple[CustomerDelta, ...]:
        """Customers who would pay less, the largest saving first."""
        return tuple(item for item in reversed(self.customers) if item.delta_minor < 0)

    @property
    def unchanged(self) -> int:
        """Customers who would pay the same."""
        return sum(item.delta_minor == 0 for item in self.customers)

    def rising_more_than(self, percent: Decimal) -> tuple[CustomerDelta, ...]:
        """Customers whose charges rise by more than `percent`; from nothing counts as more."""
        return tuple(
            item
            for item in self.losers
            if item.delta_minor * 100 > multiply(percent, Decimal(item.before_minor))
        )


def percent_change(before: int, after: int) -> Decimal | None:
    """The change in percent of `before`, rounded half up to 2 places; None from zero."""
    if before <= 0:
        return None
    share = divide(Decimal((after - before) * 10_000), Decimal(before))
    return Decimal(half_up(share)).scaleb(-2)


def what_if(usage: Iterable[UsageRow], *, current: PriceSet, proposed: PriceSet) -> WhatIf:
    """Rate every customer-period at both price sets and compare.

    Rows of one (customer, period, metric) add up. Raises MixedCurrencies when the sets differ in
    currency, and what rating raises for a bad quantity.
    """
    if (current.currency, current.exponent) != (proposed.currency, proposed.exponent):
        raise MixedCurrencies(f"{current.currency} against {proposed.currency}", path="proposed")
    work = Comparison(PeriodRater(current), PeriodRater(proposed))
    for (customer, period), quantities in grouped(usage).items():
        work.take(customer, period, quantities)
    return work.result()


class Comparison:
    """Sums per customer and period while customer-periods pass by."""

    def __init__(self, before: PeriodRater, after: PeriodRater) -> None:
        self.before, self.after = before, after
        self.count = 0
        self.per_customer: dict[str, list[int]] = {}
        self.per_period: dict[str, list[int]] = {}
        self.cliffs: list[NearCliff] = []
        self.metrics: set[tuple[str, str]] = set()
        self.watch = after.cliff_watch()

    def take(self, customer: str, period: str, quantities: Mapping[str, Decimal]) -> None:
        """Rate one customer-period at both sets."""
        old = self.before.charge(customer, quantities)
        new = self.after.charge(customer, quantities)
        self.count += 1
        sums = self.per_customer.setdefault(customer, [0, 0, 0])
        sums[0] += 1
        sums[1] += old
        sums[2] += new
        totals = self.per_period.setdefault(period, [0, 0])
        totals[0] += old
        totals[1] += new
        for metric, quantity in quantities.items():
            self.metrics.add((customer, metric))
            rater = self.after.rater(customer, metric)
            for low, at, jump in self.watch[id(rater)] if rater is not None else ():
                if low <= quantity <= at:
                    self.cliffs.append(NearCliff(customer, period, metric, quantity, at, jump))

    def result(self) -> WhatIf:
        """Everything seen, sorted and counted."""
        customers = sorted(
            (CustomerDelta(name, *sums) for name, sums in self.per_customer.items()),
            key=lambda item: (-item.delta_minor, item.customer),
        )
        self.cliffs.sort(key=lambda item: (-abs(item.jump_minor), item.customer, item.period))
        given = self.before.price_set
        return WhatIf(
            currency=given.currency,
            exponent=given.exponent,
            customer_periods=self.count,
            before_minor=sum(item.before_minor for item in customers),
            after_minor=sum(item.after_minor for item in customers),
            customers=tuple(customers),
            by_period=tuple(
                (period, old, new) for period, (old, new) in sorted(self.per_period.items())
            ),
            distribution=_distribution(customers),
            quantiles=_quantiles(customers),
            cliffs=tuple(self.cliffs[:CLIFFS_MAX]),
            unpriced_before=_unpriced(self.before, self.metrics),
            unpriced_after=_unpriced(self.after, self.metrics),
        )


def grouped(usage: Iterable[UsageRow]) -> dict[tuple[str, str], dict[str, Decimal]]:
    """Quantities per metric of each (customer, period); rows of one metric add up."""
    found: dict[tuple[str, str], dict[str, Decimal]] = {}
    for row in usage:
        metrics = found.setdefault((row.customer, row.period), {})
        seen = metrics.get(row.metric)
        metrics[row.metric] = row.quantity if seen is None else add(seen, row.quantity)
    return found


def _unpriced(rater: PeriodRater, metrics: set[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(sorted({metric for who, metric in metrics if rater.rater(who, metric) is None}))


def _distribution(customers: Sequence[CustomerDelta]) -> tuple[Bucket, ...]:
    """The histogram of change per customer; every customer is in exactly one bucket."""
    bounds = list(pairwise((None, *CHANGE_EDGES, None)))
    counts = [[0, 0] for _ in bounds]
    same, new = [0, 0], [0, 0]
    for item in customers:
        if item.delta_minor == 0:
            slot = same
        elif item.before_minor <= 0:
            slot = new
        else:
            slot = counts[_bucket_of(item, CHANGE_EDGES)]
        slot[0] += 1
        slot[1] += item.delta_minor
    buckets = [
        Bucket(over, up_to, count, delta)
        for (over, up_to), (count, delta) in zip(bounds, counts, strict=True)
    ]
    middle = CHANGE_EDGES.index(ZERO) + 1
    buckets.insert(middle, Bucket(ZERO, ZERO, same[0], same[1]))
    return (*buckets, Bucket(None, None, new[0], new[1], is_new=True))


def _bucket_of(item: CustomerDelta, edges: Sequence[Decimal]) -> int:
    """Index of the bucket (over, up_to]: compared in whole numbers, without a division."""
    scaled = item.delta_minor * 100
    return sum(scaled > edge * item.before_minor for edge in edges)


def _quantiles(customers: Sequence[CustomerDelta]) -> tuple[tuple[int, int], ...]:
    """Percentiles of the delta per customer (nearest rank): ((5, …), (25, …), (50, …), …)."""
    deltas = sorted(item.delta_minor for item in customers)
    if not deltas:
        return ()
    ranks = (5, 25, 50, 75, 95)
    return tuple((rank, deltas[max(0, -(-rank * len(deltas) // 100) - 1)]) for rank in ranks)
