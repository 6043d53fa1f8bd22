"""What a customer's period costs so far: usage by mapping, priced by the mapping's price.

Reads only: a projection writes no counter, intent or mapping and makes no Stripe call.
"""

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from uuid import UUID

from billing.models import PriceMapping
from billing.pricing import NextUnit, Price, PricingError, Rated, Rater, RuleSet
from billing.pricing.numbers import major
from billing.services.prices import prices_of
from counters.selectors import MetricUsage, current_usage
from stripemeter.lib.decimals import EXACT
from stripemeter.lib.periods import Period


@dataclass(frozen=True, slots=True)
class Line:
    """One metric's cost. ``price`` and what follows are None while the price is unknown."""

    mapping: PriceMapping
    usage: MetricUsage
    #: In the metric's unit, and in the units that Stripe bills.
    quantity: Decimal
    billed_units: Decimal
    price: Price | None
    rated: Rated | None
    next_unit: NextUnit | None

    @property
    def amount(self) -> Decimal | None:
        """Major units of the price's currency."""
        if self.rated is None or self.price is None:
            return None
        return major(self.rated.amount, self.price.exponent)

    @property
    def unit_price(self) -> Decimal | None:
        """What a unit of the metric costs on average so far, in major units."""
        if self.rated is None or self.price is None:
            return None
        if not self.quantity:
            return major(self.price.unit_amount, self.price.exponent)
        exact = major(self.rated.exact, self.price.exponent)
        return EXACT.divide(exact, self.quantity).quantize(Decimal("1e-12"), context=EXACT)


@dataclass(frozen=True, slots=True)
class Projection:
    """The cost of one customer's period so far."""

    customer_ref: str
    period: Period
    lines: list[Line]
    usage: list[MetricUsage]

    @property
    def currencies(self) -> list[str]:
        """Currencies of the priced lines, by first appearance."""
        return list(dict.fromkeys(line.price.currency for line in self.lines if line.price))

    def subtotal(self, currency: str) -> Decimal:
        """Sum of the lines in ``currency``, in major units."""
        return sum(
            (
                line.amount
                for line in self.lines
                if line.amount is not None and line.price and line.price.currency == currency
            ),
            Decimal(0),
        )


def billed_units(total: Decimal, mapping: PriceMapping) -> Decimal:
    """How many of Stripe's units a total is: whole steps only, the rest is carried."""
    units = EXACT.divide(total, Decimal(mapping.unit_factor))
    step = Decimal(1).scaleb(-mapping.value_decimals)
    return units.quantize(step, rounding=ROUND_FLOOR, context=EXACT)


@dataclass(frozen=True, slots=True)
class PriceBook:
    """The tenant's active mappings with their prices, read once for many customers."""

    mappings: list[PriceMapping]
    prices: dict[UUID, Price | None]

    def in_force(self, period: Period) -> list[PriceMapping]:
        """The mappings whose segment meets ``period``, by metric."""
        return [
            mapping
            for mapping in self.mappings
            if (mapping.effective_from is None or mapping.effective_from < period.end)
            and (mapping.effective_to is None or mapping.effective_to > period.start)
        ]


def price_book(*, tenant_id: int, metric_ids: list[int] | None = None) -> PriceBook:
    """Every active mapping of the tenant (of some metrics) and its price, in two queries."""
    found = PriceMapping.objects.filter(tenant_id=tenant_id, active=True)
    if metric_ids is not None:
        found = found.filter(metric_id__in=metric_ids)
    mappings = list(found.select_related("metric").order_by("metric__name", "created_at", "pk"))
    return PriceBook(mappings, prices_of(mappings))


def project(
    *, tenant_id: int, customer_ref: str, period: Period, metric_id: int | None = None
) -> Projection:
    """Price what the customer has used in ``period``, of one metric if ``metric_id`` is given."""
    usage = current_usage(
        tenant_id=tenant_id, customer_ref=customer_ref, period=period, metric_id=metric_id
    )
    book = price_book(tenant_id=tenant_id, metric_ids=[metric.metric_id for metric in usage])
    return priced(customer_ref, period, usage, book)


def priced(
    customer_ref: str, period: Period, usage: list[MetricUsage], book: PriceBook
) -> Projection:
    """``usage`` of the customer's period at the prices of ``book``."""
    by_metric = {metric.metric_id: metric for metric in usage}
    lines = [
        _line(mapping, by_metric[mapping.metric_id], book.prices[mapping.pk])
        for mapping in book.in_force(period)
        if mapping.metric_id in by_metric
    ]
    return Projection(customer_ref, period, lines, usage)


def _line(mapping: PriceMapping, usage: MetricUsage, price: Price | None) -> Line:
    quantity = usage.totals.of(mapping.aggregation) + usage.adjusted
    units = max(billed_units(quantity, mapping), Decimal(0))
    rated = next_unit = None
    if price is not None:
        try:
            rater = Rater(price, RuleSet.STRIPE)
            rated, next_unit = rater.rate(units), rater.next_unit(units)
        except PricingError:
            price = None
    return Line(mapping, usage, quantity, units, price, rated, next_unit)
