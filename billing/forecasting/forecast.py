"""The forecast of a period's total: what is counted so far plus an estimate of the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from math import sqrt
from statistics import fmean, stdev
from typing import Final

from billing.forecasting.backtest import LEVEL, Choice, choose
from billing.forecasting.methods import DAYS_NEEDED, ahead
from billing.forecasting.series import (
    DAY,
    PERIOD_DAYS_MAX,
    PLACES_MAX,
    Confidence,
    History,
    Method,
    estimate,
    history_of,
    places_of,
    share_of_day_left,
    utc_day,
)
from billing.pricing.numbers import add

# Below this many full days no method can be compared with another.
CHOICE_DAYS_MIN: Final = 18
# Below this many there is no interval either: two days do not show how days vary.
INTERVAL_DAYS_MIN: Final = 3
# A few equal days do not make the next ones certain.
UNTRIED_SPREAD_MIN: Final = 0.1
# Two-sided 80 % quantiles of Student's t by degrees of freedom; beyond the table 1.30.
_T80: Final = (3.08, 1.89, 1.64, 1.53, 1.48, 1.44, 1.41, 1.40, 1.38, 1.37)


@dataclass(frozen=True, slots=True)
class Interval:
    """Bounds that are meant to hold the total in `level` of the cases."""

    low: Decimal
    high: Decimal
    level: Decimal = Decimal(str(LEVEL))


@dataclass(frozen=True, slots=True)
class PathPoint:
    """The expected running total at the end of a day (or of the period, on its last day)."""

    day: date
    expected: Decimal
    low: Decimal
    high: Decimal


@dataclass(frozen=True, slots=True)
class BackTest:
    """The chosen method's error on this history, as shares (0.08 is 8 %)."""

    wape: Decimal
    mape: Decimal | None
    origins: int
    horizon_days: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """An estimate of a period's total; `so_far` is exact, everything else is not.

    `interval` is None when there is too little history to give one; then `note` says so.
    """

    total: Decimal
    so_far: Decimal
    interval: Interval | None
    method: Method
    confidence: Confidence
    note: str
    back_test: BackTest | None
    candidates: tuple[tuple[Method, Decimal], ...]
    history_days: int
    path: tuple[PathPoint, ...]


def forecast(
    daily: Mapping[date, Decimal],
    *,
    so_far: Decimal,
    period_start: datetime,
    period_end: datetime,
    now: datetime,
    choice: Choice | None = None,
) -> Forecast:
    """Forecast the total of `[period_start, period_end)` for a metric that adds up.

    `daily` maps UTC days to that day's usage, as far back as there is any; missing days count as
    zero. `so_far` is the exact total of the period at `now`. `choice` is a cached result of
    `choose`; without it the quick methods are compared here (a few milliseconds).
    Raises ValueError for a period that is empty or longer than 400 days.
    """
    days_long = (period_end - period_start) / DAY
    if not 0 < days_long <= PERIOD_DAYS_MAX:
        raise ValueError(f"the period must be between 0 and {PERIOD_DAYS_MAX} days long")
    today = utc_day(now)
    history = history_of(daily, today=today)
    if now >= period_end:
        return _plain(so_far, history, Method.ACTUAL, Confidence.EXACT, "the period is over")
    if not history.values or not any(history.values):
        return _without_history(daily, so_far, history, period_start, period_end, now)
    weights = _weights(period_start, period_end, now)
    if choice is None or len(history.values) < DAYS_NEEDED[choice.method]:
        choice = _choice(history, len(weights))
    values = ahead(history, len(weights), choice.method, choice.parameters)
    # `ahead` starts today; a period that begins later weighs the days until then with zero.
    steps = [value * weight for value, (_, weight) in zip(values, weights, strict=True)]
    return _assembled(history, choice, so_far, steps, [day for day, _ in weights])


def _weights(start: datetime, end: datetime, now: datetime) -> list[tuple[date, float]]:
    """The days from today to the period's end with the share of each that is still to come."""
    found = []
    day, last = utc_day(now), utc_day(end)
    while day <= last:
        share = share_of_day_left(now) if day == utc_day(now) else 1.0
        if day == last:
            share -= share_of_day_left(end)
        if day < utc_day(start):
            share = 0.0
        elif day == utc_day(start) and start > now:
            share -= 1.0 - share_of_day_left(start)
        if share > 0 or day < last:
            found.append((day, max(0.0, share)))
        day += DAY
    return found


def _choice(history: History, horizon: int) -> Choice:
    if len(history.values) < CHOICE_DAYS_MIN:
        return Choice(Method.RUN_RATE)
    return choose(history, horizon_days=max(1, horizon))


def _assembled(
    history: History, choice: Choice, so_far: Decimal, steps: list[float], days: list[date]
) -> Forecast:
    spread = _relative_spread(history, choice, steps)
    running = 0.0
    places = max(history.places, min(PLACES_MAX, places_of(so_far)))
    path = []
    for day, step in zip(days, steps, strict=True):
        running += step
        reach = running * (spread or 0.0)
        path.append(
            PathPoint(
                day,
                add(so_far, estimate(running, places)),
                add(so_far, estimate(max(0.0, running - reach), places)),
                add(so_far, estimate(running + reach, places)),
            )
        )
    last = path[-1] if path else PathPoint(history.last_day, so_far, so_far, so_far)
    confidence, note = _honesty(history, choice, spread)
    return Forecast(
        total=last.expected,
        so_far=so_far,
        interval=None if spread is None else Interval(last.low, last.high),
        method=choice.method,
        confidence=confidence,
        note=note,
        back_test=_back_test(choice),
        candidates=tuple((item.method, _share(item.wape)) for item in choice.candidates),
        history_days=len(history.values),
        path=tuple(path),
    )


def _relative_spread(history: History, choice: Choice, steps: list[float]) -> float | None:
    """Half-width of the interval relative to the rest; None with fewer than 3 days.

    From the back-test where there is one; else from how the days vary, as for a mean of few
    independent days: t x s x sqrt(days ahead + days ahead squared / days known).
    """
    if choice.score is not None:
        return choice.score.spread
    known, length = history.values, len(history.values)
    rest = sum(steps)
    if length < INTERVAL_DAYS_MIN or not any(known):
        return None
    if rest <= 0:
        return 0.0
    quantile = _T80[length - 2] if length - 2 < len(_T80) else 1.30
    days = rest / fmean(known)
    spread = quantile * stdev(known) * sqrt(days + days * days / length) / rest
    return max(spread, UNTRIED_SPREAD_MIN)


def _honesty(history: History, choice: Choice, spread: float | None) -> tuple[Confidence, str]:
    days = len(history.values)
    if spread is None:
        return Confidence.LOW, f"only {_days(days)} of history: a run rate without an interval"
    if choice.score is None:
        return Confidence.LOW, f"only {_days(days)} of history: methods were not compared"
    if choice.score.wape > 0.5:
        return Confidence.LOW, "usage is irregular: the back-test error is above 50 %"
    return Confidence.NORMAL, ""


def _days(count: int) -> str:
    return "1 full day" if count == 1 else f"{count} full days"


def _back_test(choice: Choice) -> BackTest | None:
    found = choice.score
    if found is None:
        return None
    mape = None if found.mape is None else _share(found.mape)
    return BackTest(_share(found.wape), mape, found.origins, found.horizon_days)


def _share(value: float) -> Decimal:
    return estimate(value, 4)


def _plain(
    so_far: Decimal, history: History, method: Method, confidence: Confidence, note: str
) -> Forecast:
    interval = Interval(so_far, so_far) if confidence is Confidence.EXACT else None
    return Forecast(
        total=so_far,
        so_far=so_far,
        interval=interval,
        method=method,
        confidence=confidence,
        note=note,
        back_test=None,
        candidates=(),
        history_days=len(history.values),
        path=(),
    )


def _without_history(
    daily: Mapping[date, Decimal],
    so_far: Decimal,
    history: History,
    start: datetime,
    end: datetime,
    now: datetime,
) -> Forecast:
    """No full day with usage: the elapsed share of the period is all there is to go by."""
    elapsed = (now - start) / (end - start) if now > start else 0.0
    if so_far <= 0 or elapsed <= 0:
        note = "no usage yet: nothing to forecast from"
        return _plain(so_far, history, Method.NO_HISTORY, Confidence.LOW, note)
    since = max(start, now.replace(hour=0, minute=0, second=0, microsecond=0))
    passed = (now - since) / DAY
    rate = float(so_far) / passed if passed > 0 else 0.0
    weights = _weights(start, end, now)
    steps = [rate * weight for _, weight in weights]
    return _assembled(history, Choice(Method.RUN_RATE), so_far, steps, [day for day, _ in weights])
