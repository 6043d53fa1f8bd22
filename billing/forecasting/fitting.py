"""Parameters of the damped trend, estimated by statsmodels.

statsmodels takes seconds to import and tens of milliseconds to fit, so it is imported on first
use and meant for background work; requests run the fitted recursion in `methods`.
"""

from __future__ import annotations

import warnings
from typing import Final

from billing.forecasting.methods import TREND_DAYS_MIN, TREND_DEFAULT
from billing.forecasting.series import History

Parameters = tuple[float, float, float, float]

# Older days describe another customer.
FIT_DAYS_MAX: Final = 112
# The recursion starts from the first weeks' means; below this it would never forget them.
LEVEL_MIN: Final = 0.05


def fit_damped_trend(history: History) -> Parameters:
    """Level, trend, season and damping for a history; the defaults where no fit is possible.

    Fitted by maximum likelihood (statsmodels ExponentialSmoothing, additive damped trend,
    additive season of 7 days). A flat or short history, or a fit that fails, gives the defaults.
    """
    values = history.values[-FIT_DAYS_MAX:]
    if len(values) < TREND_DAYS_MIN or max(values) == min(values):
        return TREND_DEFAULT
    from statsmodels.tsa.holtwinters import ExponentialSmoothing

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # convergence is judged below, by the numbers
        try:
            model = ExponentialSmoothing(
                list(values),
                trend="add",
                damped_trend=True,
                seasonal="add",
                seasonal_periods=7,
                initialization_method="heuristic",
            )
            found = model.fit(use_brute=False).params
        except (ValueError, ArithmeticError, IndexError):
            return TREND_DEFAULT
    names = ("smoothing_level", "smoothing_trend", "smoothing_seasonal", "damping_trend")
    level, trend, season, damping = (float(found[name]) for name in names)
    if not all(0.0 <= value <= 1.0 for value in (level, trend, season, damping)):
        return TREND_DEFAULT
    return max(level, LEVEL_MIN), trend, season, damping
