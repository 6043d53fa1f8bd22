"""Forecasts of a period's usage, with an interval, the method's name and its past error. Pure."""

from billing.forecasting.backtest import Choice, Score, choose
from billing.forecasting.dates import Reached, budget_reached, quantity_reached, tier_entered
from billing.forecasting.evaluation import Summary, Trial, evaluate, summarise
from billing.forecasting.forecast import BackTest, Forecast, Interval, PathPoint, forecast
from billing.forecasting.levels import Level, forecast_level
from billing.forecasting.methods import ALL, QUICK
from billing.forecasting.series import Confidence, History, Method, history_of

__all__ = [
    "ALL",
    "QUICK",
    "BackTest",
    "Choice",
    "Confidence",
    "Forecast",
    "History",
    "Interval",
    "Level",
    "Method",
    "PathPoint",
    "Reached",
    "Score",
    "Summary",
    "Trial",
    "budget_reached",
    "choose",
    "evaluate",
    "forecast",
    "forecast_level",
    "history_of",
    "quantity_reached",
    "summarise",
    "tier_entered",
]
