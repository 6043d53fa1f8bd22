"""When a forecast reaches something: the next tier, a cap, a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from billing.forecasting.forecast import Forecast, PathPoint


@dataclass(frozen=True, slots=True)
class Reached:
    """UTC days on which a limit is reached; None where it is not reached within the period.

    `on` follows the expected path, `earliest` the upper edge of the interval and `latest` its
    lower edge. `already` is true when the exact total has reached it.
    """

    on: date | None
    earliest: date | None
    latest: date | None
    already: bool = False


_ALREADY = Reached(None, None, None, already=True)


def quantity_reached(forecast: Forecast, quantity: Decimal) -> Reached:
    """When the running total reaches `quantity`: a cap in units."""
    return _first(forecast, lambda total: total >= quantity)


def tier_entered(forecast: Forecast, up_to: Decimal | None) -> Reached | None:
    """When usage passes the end of its tier into the next one; None for a tier without end."""
    if up_to is None:
        return None
    return _first(forecast, lambda total: total > up_to)


def _first(forecast: Forecast, is_reached: Callable[[Decimal], bool]) -> Reached:
    if is_reached(forecast.so_far):
        return _ALREADY
    has_interval = forecast.interval is not None

    def day(edge: Callable[[PathPoint], Decimal]) -> date | None:
        return next((point.day for point in forecast.path if is_reached(edge(point))), None)

    return Reached(
        on=day(lambda point: point.expected),
        earliest=day(lambda point: point.high) if has_interval else None,
        latest=day(lambda point: point.low) if has_interval else None,
    )


def budget_reached(
    forecasts: Mapping[str, Forecast],
    cost: Callable[[Mapping[str, Decimal]], Decimal | int],
    budget: Decimal | int,
) -> Reached:
    """When the cost of all metrics together reaches `budget` (the unit is that of `cost`).

    `cost` gets the running total per metric; it is called at most three times a day of the path.
    Edges take every metric at its edge at once, which is wider than 80 % when they vary alone.
    """
    if cost({name: item.so_far for name, item in forecasts.items()}) >= budget:
        return _ALREADY
    days = sorted({point.day for item in forecasts.values() for point in item.path})

    def first(edge: Callable[[PathPoint], Decimal]) -> date | None:
        totals = {name: item.so_far for name, item in forecasts.items()}
        points = {name: {p.day: p for p in item.path} for name, item in forecasts.items()}
        for day in days:
            for name, found in points.items():
                if day in found:
                    totals[name] = edge(found[day])
            if cost(totals) >= budget:
                return day
        return None

    has_interval = all(item.interval is not None for item in forecasts.values())
    return Reached(
        on=first(lambda point: point.expected),
        earliest=first(lambda point: point.high) if has_interval else None,
        latest=first(lambda point: point.low) if has_interval else None,
    )
