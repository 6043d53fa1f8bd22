"""What a customer's period costs so far: usage by mapping, priced by the mapping's price.

Reads only: a projection writes no counter, intent or mapping and makes no Stripe call.
"""

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

from django.db.models import Q

from billing.models import PriceMapping
from billing.pricing import NextUnit, Price, PricingError, Rated, Rater, RuleSet
from billing.pricing.numbers import major
from billing.services.prices import price_of
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


def project(*, tenant_id: int, customer_ref: str, period: Period) -> Projection:
    """Price what the customer has used in ``period``."""
    usage = current_usage(tenant_id=tenant_id, customer_ref=customer_ref, period=period)
    by_metric = {metric.metric_id: metric for metric in usage}
    mappings = PriceMapping.objects.filter(
        Q(effective_from__isnull=True) | Q(effective_from__lt=period.end),
        Q(effective_to__isnull=True) | Q(effective_to__gt=period.start),
        tenant_id=tenant_id,
        active=True,
        metric_id__in=list(by_metric),
    ).select_related("metric")
    lines = [
        _line(mapping, by_metric[mapping.metric_id])
        for mapping in mappings.order_by("metric__name")
    ]
    return Projection(customer_ref, period, lines, usage)


def _line(mapping: PriceMapping, usage: MetricUsage) -> Line:
    quantity = usage.totals.of(mapping.aggregation) + usage.adjusted
    units = max(billed_units(quantity, mapping), Decimal(0))
    price = price_of(mapping)
    rated = next_unit = None
    if price is not None:
        try:
            rater = Rater(price, RuleSet.STRIPE)
            rated, next_unit = rater.rate(units), rater.next_unit(units)
        except PricingError:
            price = None
    return Line(mapping, usage, quantity, units, price, rated, next_unit)
