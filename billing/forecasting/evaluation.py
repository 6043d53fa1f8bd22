"""The error table: forecasts made in the past with only what was known then, against what came.

This tests the whole way (choice of method, interval, fallback), for several points of each past
period, next to the plain elapsed-time ratio that other tools show.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from statistics import fmean, median
from typing import Final

from billing.forecasting.backtest import choose
from billing.forecasting.forecast import CHOICE_DAYS_MIN, forecast
from billing.forecasting.methods import QUICK
from billing.forecasting.series import DAY, Method, history_of, utc_day

CUTS: Final = (0.25, 0.5, 0.75)


@dataclass(frozen=True, slots=True)
class Trial:
    """One forecast made at `cut` of a past period. Errors are shares of the actual total."""

    period_start: datetime
    cut: float
    method: Method
    actual: float
    error: float
    ratio_error: float
    covered: bool | None


@dataclass(frozen=True, slots=True)
class Summary:
    """Errors over many trials, as shares; `coverage` counts intervals that held the total."""

    trials: int
    median_error: float
    mean_error: float
    ratio_median_error: float
    ratio_mean_error: float
    coverage: float | None
    methods: Mapping[Method, int]


def evaluate(
    daily: Mapping[date, Decimal],
    periods: Iterable[tuple[datetime, datetime]],
    *,
    cuts: Sequence[float] = CUTS,
    methods: Sequence[Method] = QUICK,
) -> list[Trial]:
    """Trials for each past period and cut. Periods without usage are left out.

    Each trial sees the days before its cut only. Period bounds are UTC midnights; a cut falls on
    the midnight at or before its share of the period.
    """
    trials = []
    for start, end in periods:
        whole = _total(daily, start, end)
        if whole <= 0:
            continue
        days = (end - start).days
        for cut in cuts:
            now = start + DAY * int(days * cut)
            trials.append(_trial(daily, start, end, now, cut, whole, methods))
    return trials


def _trial(
    daily: Mapping[date, Decimal],
    start: datetime,
    end: datetime,
    now: datetime,
    cut: float,
    whole: Decimal,
    methods: Sequence[Method],
) -> Trial:
    known = {day: value for day, value in daily.items() if day < utc_day(now)}
    so_far = _total(known, start, now)
    history = history_of(known, today=utc_day(now))
    choice = None
    if len(history.values) >= CHOICE_DAYS_MIN:
        choice = choose(history, horizon_days=(end - now).days, methods=methods)
    found = forecast(
        known, so_far=so_far, period_start=start, period_end=end, now=now, choice=choice
    )
    elapsed = (now - start) / (end - start)
    ratio = float(so_far) / elapsed if elapsed else 0.0
    actual = float(whole)
    interval = found.interval
    return Trial(
        period_start=start,
        cut=cut,
        method=found.method,
        actual=actual,
        error=abs(float(found.total) - actual) / actual,
        ratio_error=abs(ratio - actual) / actual,
        covered=None if interval is None else interval.low <= whole <= interval.high,
    )


def _total(daily: Mapping[date, Decimal], start: datetime, end: datetime) -> Decimal:
    first, last = utc_day(start), utc_day(end)
    return sum((value for day, value in daily.items() if first <= day < last), Decimal(0))


def summarise(trials: Sequence[Trial]) -> Summary:
    """Medians and means over trials; raises ValueError for none."""
    if not trials:
        raise ValueError("no trials")
    covered = [trial.covered for trial in trials if trial.covered is not None]
    counts: dict[Method, int] = {}
    for trial in trials:
        counts[trial.method] = counts.get(trial.method, 0) + 1
    return Summary(
        trials=len(trials),
        median_error=median(trial.error for trial in trials),
        mean_error=fmean(trial.error for trial in trials),
        ratio_median_error=median(trial.ratio_error for trial in trials),
        ratio_mean_error=fmean(trial.ratio_error for trial in trials),
        coverage=fmean(covered) if covered else None,
        methods=counts,
    )
