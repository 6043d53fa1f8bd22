"""Choosing a method: each candidate forecasts the past, and the smallest error wins.

From a number of past days each method forecasts the sum of the next days, knowing only what came
before. The error is the WAPE: the sum of absolute errors over the sum of the actual values. The
80 % interval uses the same errors (split conformal): it is as wide as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from billing.forecasting.fitting import fit_damped_trend
from billing.forecasting.methods import DAYS_NEEDED, QUICK, ahead
from billing.forecasting.series import History, Method

ORIGINS_MAX: Final = 24
# Fewer trials than this say too little to choose by or to take an interval from.
ORIGINS_MIN: Final = 4
TRAIN_DAYS_MIN: Final = 14
LEVEL: Final = 0.8
# Choosing the smallest of noisy errors favours luck: a method must beat the simpler ones by this.
MARGINS: Final = {
    Method.RUN_RATE: 0.0,
    Method.RECENT_RATE: 0.1,
    Method.WEEKDAY_PROFILE: 0.03,
    Method.DAMPED_TREND: 0.1,
}


@dataclass(frozen=True, slots=True)
class Score:
    """A method's back-test: WAPE and mean absolute percentage error as shares, and the trials.

    `spread` is the relative half-width that held the actual value in 80 % of the trials. `mape`
    leaves out trials whose actual value was zero; None when none was left.
    """

    method: Method
    wape: float
    mape: float | None
    spread: float
    origins: int
    horizon_days: int


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen method with its parameters and score, and what the others scored.

    Plain values, so it can be cached or stored per customer and metric and reused for days.
    """

    method: Method
    parameters: tuple[float, ...] = ()
    score: Score | None = None
    candidates: tuple[Score, ...] = ()


def origins(length: int, horizon: int) -> tuple[list[int], int]:
    """Positions to forecast from, evenly spread, and the horizon that fits the history.

    A history too short for the wanted horizon is tried at a shorter one, at least 3 days.
    """
    room = length - TRAIN_DAYS_MIN
    horizon = max(1, min(horizon, room - ORIGINS_MIN + 1))
    last = length - horizon
    count = last - TRAIN_DAYS_MIN + 1
    if count < ORIGINS_MIN:
        return [], horizon
    taken = min(count, ORIGINS_MAX)
    if taken == 1:
        return [last], horizon
    step = (last - TRAIN_DAYS_MIN) / (taken - 1)
    return sorted({round(TRAIN_DAYS_MIN + index * step) for index in range(taken)}), horizon


def score(
    history: History, method: Method, horizon: int, parameters: Sequence[float] = ()
) -> Score | None:
    """A method's back-test at a horizon of days; None when the history is too short for it."""
    positions, horizon = origins(len(history.values), horizon)
    positions = [position for position in positions if position >= DAYS_NEEDED[method]]
    if len(positions) < ORIGINS_MIN:
        return None
    pairs = [
        (
            sum(ahead(history.head(position), horizon, method, parameters)),
            sum(history.values[position : position + horizon]),
        )
        for position in positions
    ]
    windows = (positions[-1] - positions[0]) / horizon + 1
    return _scored(method, pairs, horizon, windows)


def _scored(
    method: Method, pairs: Sequence[tuple[float, float]], horizon: int, windows: float
) -> Score:
    errors = [abs(forecast - actual) for forecast, actual in pairs]
    actuals = sum(abs(actual) for _, actual in pairs)
    wape = sum(errors) / actuals if actuals else (1.0 if any(errors) else 0.0)
    shares = [
        error / actual for error, (_, actual) in zip(errors, pairs, strict=True) if actual > 0
    ]
    return Score(
        method=method,
        wape=wape,
        mape=sum(shares) / len(shares) if shares else None,
        spread=_spread(pairs, windows),
        origins=len(pairs),
        horizon_days=horizon,
    )


def _spread(pairs: Sequence[tuple[float, float]], windows: float) -> float:
    """The conformal 80 % quantile of the error relative to the forecast.

    Trials overlap, so there are only `windows` independent ones, and the quantile is taken
    correspondingly higher: (n + 1) / n for n windows.
    """
    shares = sorted(
        abs(actual - forecast) / forecast if forecast > 0 else (0.0 if actual == 0 else 1.0)
        for forecast, actual in pairs
    )
    rank = min(len(shares), ceil(len(shares) * LEVEL * (windows + 1) / windows))
    return shares[rank - 1]


def choose(history: History, *, horizon_days: int, methods: Sequence[Method] = QUICK) -> Choice:
    """The method with the smallest back-test error for this history and horizon.

    The damped trend is fitted on the training days before the first trial for its score, and on
    everything for use. With too little history for any trial the run rate is taken, unscored.
    """
    scores: list[Score] = []
    for method in methods:
        parameters: tuple[float, ...] = ()
        if method is Method.DAMPED_TREND:
            parameters = _training_parameters(history, horizon_days)
        found = score(history, method, horizon_days, parameters)
        if found is not None:
            scores.append(found)
    if not scores:
        return Choice(Method.RUN_RATE)
    best = _best(scores)
    fitted: tuple[float, ...] = ()
    if best.method is Method.DAMPED_TREND:
        fitted = fit_damped_trend(history)
    return Choice(best.method, fitted, best, tuple(scores))


def _best(scores: Sequence[Score]) -> Score:
    """The first of the scores, simplest first, that no later one beats by its margin."""
    best = scores[0]
    for found in scores[1:]:
        if found.wape < best.wape * (1 - MARGINS[found.method]):
            best = found
    return best


def _training_parameters(history: History, horizon: int) -> tuple[float, ...]:
    """Parameters from the older half only, so that most trials test days the fit never saw."""
    needed = DAYS_NEEDED[Method.DAMPED_TREND]
    if origins(len(history.values), horizon)[0] == []:
        return ()
    return fit_damped_trend(history.head(max(needed, len(history.values) // 2)))
