"""The forecasters: each turns a history into values for the next days. Fast, without statsmodels.

Every method answers with one non-negative value per day. `damped_trend` runs the recursion of
Holt's damped trend with additive weekdays; its parameters come from `fitting` (statsmodels).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Final

from billing.forecasting.series import History, Method

RUN_RATE_DAYS: Final = 28
RECENT_DAYS: Final = 7
PROFILE_DAYS: Final = 56
# A weekday profile needs each weekday twice.
PROFILE_DAYS_MIN: Final = 14
TREND_DAYS_MIN: Final = 28

# Level, trend, season, damping: used where no fit was made or the fit failed.
TREND_DEFAULT: Final = (0.3, 0.05, 0.1, 0.9)

Forecaster = Callable[[History, int, Sequence[float]], list[float]]


def run_rate(history: History, days: int, parameters: Sequence[float] = ()) -> list[float]:
    """The mean of the last 28 days, every day."""
    return [fmean(history.values[-RUN_RATE_DAYS:])] * days


def recent_rate(history: History, days: int, parameters: Sequence[float] = ()) -> list[float]:
    """The mean of the last 7 days, every day."""
    return [fmean(history.values[-RECENT_DAYS:])] * days


def weekday_profile(history: History, days: int, parameters: Sequence[float] = ()) -> list[float]:
    """The last 28 days' level times each weekday's share of the last 8 weeks."""
    values = history.values
    start = max(0, len(values) - PROFILE_DAYS)
    sums, counts = [0.0] * 7, [0] * 7
    for index in range(start, len(values)):
        weekday = history.weekday(index)
        sums[weekday] += values[index]
        counts[weekday] += 1
    level = fmean(values[-RUN_RATE_DAYS:])
    means = [total / count if count else level for total, count in zip(sums, counts, strict=True)]
    whole = fmean(means)
    if whole <= 0:
        return [0.0] * days
    return [level * means[history.weekday(len(values) + ahead)] / whole for ahead in range(days)]


def damped_trend(
    history: History, days: int, parameters: Sequence[float] = TREND_DEFAULT
) -> list[float]:
    """Holt's damped trend with additive weekday seasons (Gardner and McKenzie 1985)."""
    alpha, beta, gamma, phi = parameters or TREND_DEFAULT
    values = history.values
    level = fmean(values[:7])
    trend = (fmean(values[7:14]) - level) / 7 if len(values) >= 14 else 0.0
    season = [0.0] * 7
    for index in range(min(14, len(values))):
        weekday = history.weekday(index)
        week = fmean(values[index // 7 * 7 : index // 7 * 7 + 7])
        season[weekday] += (values[index] - week) / 2
    for index, value in enumerate(values):
        weekday = history.weekday(index)
        expected = level + phi * trend
        previous = level
        level = alpha * (value - season[weekday]) + (1 - alpha) * expected
        trend = beta * (level - previous) + (1 - beta) * phi * trend
        season[weekday] = gamma * (value - expected) + (1 - gamma) * season[weekday]
    ahead, reach = [], 0.0
    for step in range(days):
        reach += phi ** (step + 1)
        weekday = history.weekday(len(values) + step)
        ahead.append(max(0.0, level + reach * trend + season[weekday]))
    return ahead


# Simplest first: a tie in the back-test goes to the simpler method.
FORECASTERS: Final[dict[Method, Forecaster]] = {
    Method.RUN_RATE: run_rate,
    Method.RECENT_RATE: recent_rate,
    Method.WEEKDAY_PROFILE: weekday_profile,
    Method.DAMPED_TREND: damped_trend,
}

DAYS_NEEDED: Final = {
    Method.RUN_RATE: 1,
    Method.RECENT_RATE: RECENT_DAYS,
    Method.WEEKDAY_PROFILE: PROFILE_DAYS_MIN,
    Method.DAMPED_TREND: TREND_DAYS_MIN,
}

# What a request may try; the damped trend's fit is for background work.
QUICK: Final = (Method.RUN_RATE, Method.RECENT_RATE, Method.WEEKDAY_PROFILE)
ALL: Final = (*QUICK, Method.DAMPED_TREND)


def ahead(
    history: History, days: int, method: Method, parameters: Sequence[float] = ()
) -> list[float]:
    """Values of the next `days` days by one method; never negative."""
    if days <= 0:
        return []
    return [max(0.0, value) for value in FORECASTERS[method](history, days, parameters)]
