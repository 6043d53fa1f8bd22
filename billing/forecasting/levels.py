"""Metrics that do not add up (`max`, `last`): the level carries on, its range from past changes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from math import ceil
from typing import Final

from billing.forecasting.backtest import LEVEL
from billing.forecasting.forecast import Forecast, Interval, PathPoint
from billing.forecasting.series import DAY, Confidence, Method, estimate, history_of, utc_day
from billing.pricing.numbers import add, subtract

CHANGES_MIN: Final = 8
CHANGES_MAX: Final = 120


class Level(StrEnum):
    """A peak can only rise within its period; a last value can fall too."""

    PEAK = "peak"
    LAST = "last"


def forecast_level(
    daily: Mapping[date, Decimal],
    *,
    current: Decimal,
    period_end: datetime,
    now: datetime,
    level: Level,
) -> Forecast:
    """The level at the period's end: today's, with 80 % of past changes over as many days.

    `daily` maps UTC days to that day's highest or last value; days without one keep the value
    before. `current` is the exact value of the period at `now`.
    """
    history = history_of(_carried(daily, utc_day(now)), today=utc_day(now))
    if now >= period_end:
        exact = Interval(current, current)
        return _level(current, exact, Confidence.EXACT, "the period is over", len(history.values))
    last = utc_day(period_end)
    days = max(1, (last - utc_day(now)).days)
    values = history.values
    changes = [values[i + days] - values[i] for i in range(len(values) - days)][-CHANGES_MAX:]
    if len(changes) < CHANGES_MIN:
        note = f"only {len(values)} full days of history: the level is carried on"
        return _level(current, None, Confidence.LOW, note, len(values))
    spread = sorted(abs(change) for change in changes)
    half = spread[min(len(spread), ceil((len(spread) + 1) * LEVEL)) - 1]
    rise = estimate(half, history.places)
    low = current if level is Level.PEAK else max(Decimal(0), subtract(current, rise))
    interval = Interval(low, add(current, rise))
    point = PathPoint(last, current, interval.low, interval.high)
    return _level(current, interval, Confidence.NORMAL, "", len(values), (point,))


def _carried(daily: Mapping[date, Decimal], today: date) -> dict[date, Decimal]:
    """Days without a value keep the one before: a level does not drop to zero overnight."""
    if not daily:
        return {}
    filled, day = {}, min(daily)
    value = daily[day]
    while day < today:
        value = daily.get(day, value)
        filled[day] = value
        day += DAY
    return filled


def _level(
    current: Decimal,
    interval: Interval | None,
    confidence: Confidence,
    note: str,
    days: int,
    path: tuple[PathPoint, ...] = (),
) -> Forecast:
    return Forecast(
        total=current,
        so_far=current,
        interval=interval,
        method=Method.ACTUAL if confidence is Confidence.EXACT else Method.LAST_LEVEL,
        confidence=confidence,
        note=note,
        back_test=None,
        candidates=(),
        history_days=days,
        path=path,
    )
