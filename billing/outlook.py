"""What the period will cost: forecasts of usage, priced as the bill will be.

The method is chosen per customer and metric by its error on the customer's own past
(`billing.forecasting`). Reads only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from billing.forecasting import Forecast, Level, Reached, forecast, tier_entered
from billing.forecasting.levels import forecast_level
from billing.pricing import Price, PricingError, Rater, RuleSet
from billing.pricing.numbers import major
from billing.projection import Line, Projection, billed_units
from counters.models import DailyRollup
from counters.selectors.usage import totals_of
from counters.totals import ADDITIVE

#: As far back as forecasts look: three months show weekdays and trend.
HISTORY = timedelta(days=92)


@dataclass(frozen=True, slots=True)
class LineOutlook:
    """One metric at the period's end; amounts in major units, None while unpriced."""

    line: Line
    forecast: Forecast
    total: Decimal | None
    low: Decimal | None
    high: Decimal | None
    next_tier: Reached | None


@dataclass(frozen=True, slots=True)
class Outlook:
    """The period's bill as expected. The interval adds up the metrics' edges, so it is wider
    than 80 % when they vary independently; None if a metric has too little history."""

    lines: list[LineOutlook]
    currency: str | None
    total: Decimal | None
    low: Decimal | None
    high: Decimal | None


def outlook(projection: Projection, *, tenant_id: int, now: datetime) -> Outlook:
    """The bill of the projection's period as it will probably be."""
    daily = _daily(projection, tenant_id, now)
    lines = [
        _line(line, daily.get(line.usage.metric_id, {}), projection, now)
        for line in projection.lines
    ]
    currencies = projection.currencies
    if len(currencies) != 1:
        return Outlook(lines, None, None, None, None)
    priced = [line for line in lines if line.total is not None]
    return Outlook(
        lines,
        currencies[0],
        _sum([line.total for line in priced]),
        _sum([line.low for line in priced]),
        _sum([line.high for line in priced]),
    )


def _sum(amounts: list[Decimal | None]) -> Decimal | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known, Decimal(0)) if len(known) == len(amounts) and known else None


def _daily(projection: Projection, tenant_id: int, now: datetime) -> dict[int, dict[date, Decimal]]:
    """Per metric, the value of each UTC day of the last three months, from the rollups."""
    by_metric = {line.usage.metric_id: line.mapping.aggregation for line in projection.lines}
    rollups = DailyRollup.objects.filter(
        tenant_id=tenant_id,
        metric_id__in=list(by_metric),
        customer_ref=projection.customer_ref,
        day__gte=(now - HISTORY).date(),
    )
    found: dict[int, dict[date, Decimal]] = {}
    for rollup in rollups:
        days = found.setdefault(rollup.metric_id, {})
        value = totals_of(rollup).of(by_metric[rollup.metric_id])
        # A day on which two periods meet has two rollups.
        days[rollup.day] = days.get(rollup.day, Decimal(0)) + value
    return found


def _line(
    line: Line, daily: Mapping[date, Decimal], projection: Projection, now: datetime
) -> LineOutlook:
    period = projection.period
    if line.mapping.aggregation in ADDITIVE:
        expected = forecast(
            daily,
            so_far=line.quantity,
            period_start=period.start,
            period_end=period.end,
            now=now,
        )
    else:
        level = Level.LAST if line.mapping.aggregation in {"last", "min"} else Level.PEAK
        expected = forecast_level(
            daily, current=line.quantity, period_end=period.end, now=now, level=level
        )
    reached = None
    if line.price is not None and line.next_unit is not None:
        reached = tier_entered(expected, _in_metric_units(line, line.next_unit.tier_up_to))
    interval = expected.interval
    return LineOutlook(
        line,
        expected,
        priced_quantity(line, expected.total),
        priced_quantity(line, interval.low) if interval else None,
        priced_quantity(line, interval.high) if interval else None,
        reached,
    )


def _in_metric_units(line: Line, units: Decimal | None) -> Decimal | None:
    return None if units is None else units * Decimal(line.mapping.unit_factor)


def priced_quantity(line: Line, quantity: Decimal) -> Decimal | None:
    """What ``quantity`` of the line's metric costs, in major units; None while unpriced."""
    price: Price | None = line.price
    if price is None:
        return None
    units = max(billed_units(quantity, line.mapping), Decimal(0))
    try:
        return major(Rater(price, RuleSet.STRIPE).amount(units), price.exponent)
    except PricingError:
        return None
