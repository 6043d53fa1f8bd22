"""Forecasts: exact where known, right where easy, honest where not."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.forecasting import (
    ALL,
    Choice,
    Confidence,
    Forecast,
    Interval,
    Level,
    Method,
    budget_reached,
    choose,
    evaluate,
    forecast,
    forecast_level,
    history_of,
    quantity_reached,
    summarise,
    tier_entered,
)
from billing.forecasting.backtest import origins
from billing.forecasting.methods import TREND_DEFAULT, ahead

START, END = datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 4, 1, tzinfo=UTC)
NOON_11 = datetime(2025, 3, 11, 12, tzinfo=UTC)
FIRST = date(2025, 1, 1)


def days(count: int, value: object = 100, first: date = FIRST) -> dict[date, Decimal]:
    return {first + timedelta(index): Decimal(str(value)) for index in range(count)}


def until(day: date, value: object = 100) -> dict[date, Decimal]:
    return days((day - FIRST).days, value)


def at(now: datetime, daily: dict[date, Decimal], so_far: object, **more: object) -> Forecast:
    return forecast(
        daily,
        so_far=Decimal(str(so_far)),
        period_start=START,
        period_end=END,
        now=now,
        **more,  # type: ignore[arg-type]
    )


def test_steady_usage_ends_where_it_must() -> None:
    found = at(NOON_11, until(date(2025, 3, 11)), 1050)
    assert found.total == 3100
    assert found.interval == Interval(Decimal(3100), Decimal(3100))
    assert (found.method, found.confidence) == (Method.RUN_RATE, Confidence.NORMAL)
    assert found.back_test is not None
    assert (found.back_test.wape, found.back_test.horizon_days) == (0, 21)


def test_the_path_ends_with_the_last_day_of_the_period_and_with_the_total() -> None:
    found = at(NOON_11, until(date(2025, 3, 11)), 1050)
    assert found.path[0].day == date(2025, 3, 11)
    assert found.path[0].expected == 1100
    assert (found.path[-1].day, found.path[-1].expected) == (date(2025, 3, 31), found.total)


def test_a_period_may_start_and_end_inside_a_day() -> None:
    found = forecast(
        until(date(2025, 3, 11)),
        so_far=Decimal(0),
        period_start=datetime(2025, 3, 11, 12, tzinfo=UTC),
        period_end=datetime(2025, 3, 13, 6, tzinfo=UTC),
        now=datetime(2025, 3, 11, 12, tzinfo=UTC),
    )
    assert found.total == 175


def test_a_period_that_has_not_begun_is_forecast_whole() -> None:
    assert at(datetime(2025, 2, 20, 8, tzinfo=UTC), until(date(2025, 2, 20)), 0).total == 3100


def test_a_period_that_is_over_is_its_exact_total() -> None:
    found = at(END, until(date(2025, 4, 1)), "3123.5")
    assert (found.total, found.method) == (Decimal("3123.5"), Method.ACTUAL)
    assert found.confidence is Confidence.EXACT


def test_a_weekday_pattern_is_found() -> None:
    daily = {
        day: Decimal(10 if day.weekday() >= 5 else 100)
        for day in (FIRST + timedelta(index) for index in range(69))
    }
    friday = datetime(2025, 3, 7, tzinfo=UTC)
    daily = {day: value for day, value in daily.items() if day < friday.date()}
    found = forecast(
        daily,
        so_far=Decimal(0),
        period_start=friday,
        period_end=datetime(2025, 3, 10, tzinfo=UTC),
        now=friday,
    )
    assert found.method is Method.WEEKDAY_PROFILE
    assert found.total == 120


def test_a_new_level_is_followed_by_the_recent_rate() -> None:
    daily = until(date(2025, 3, 1)) | days(14, 300, date(2025, 3, 1))
    found = forecast(
        daily,
        so_far=Decimal(4200),
        period_start=START,
        period_end=datetime(2025, 3, 18, tzinfo=UTC),
        now=datetime(2025, 3, 15, tzinfo=UTC),
    )
    assert (found.method, found.total) == (Method.RECENT_RATE, 5100)


def test_three_days_of_history_give_a_wide_interval_and_say_so() -> None:
    daily = dict(zip(days(3, first=date(2025, 3, 1)), map(Decimal, (80, 100, 120)), strict=True))
    found = at(datetime(2025, 3, 4, tzinfo=UTC), daily, 300)
    assert (found.total, found.confidence) == (3100, Confidence.LOW)
    assert found.note == "only 3 full days of history: methods were not compared"
    assert found.interval is not None
    assert found.interval.low < 2600 < 3600 < found.interval.high
    assert found.back_test is None


def test_equal_days_without_a_back_test_still_leave_room() -> None:
    found = at(datetime(2025, 3, 4, tzinfo=UTC), days(3, first=date(2025, 3, 1)), 300)
    assert found.interval == Interval(Decimal(2820), Decimal(3380))


def test_a_first_day_has_no_interval() -> None:
    found = at(datetime(2025, 3, 1, 6, tzinfo=UTC), {}, 100)
    assert (found.total, found.interval, found.confidence) == (12400, None, Confidence.LOW)
    assert "0 full days" in found.note


def test_no_usage_is_no_forecast() -> None:
    found = at(NOON_11, {}, 0)
    assert (found.total, found.method, found.interval) == (0, Method.NO_HISTORY, None)
    assert found.confidence is Confidence.LOW


def test_irregular_usage_is_called_irregular() -> None:
    daily = {day: Decimal(0) for day in until(date(2025, 3, 11))}
    for index, day in enumerate(daily):
        if index in (3, 61):
            daily[day] = Decimal(5000)
    found = at(NOON_11, daily, 5000)
    assert (found.confidence, "irregular" in found.note) == (Confidence.LOW, True)


@pytest.mark.parametrize("end", [START, datetime(2027, 3, 1, tzinfo=UTC)])
def test_an_empty_or_endless_period_is_refused(end: datetime) -> None:
    with pytest.raises(ValueError, match="the period must be"):
        forecast({}, so_far=Decimal(0), period_start=START, period_end=end, now=START)


def test_results_keep_the_places_of_the_data() -> None:
    daily = until(date(2025, 3, 11), "0.125")
    assert at(NOON_11, daily, "1.3125").total == Decimal("3.875")
    whole = {day: Decimal(index % 7) for index, day in enumerate(daily)}
    assert at(NOON_11, whole, 30).total % 1 == 0


VALUES = st.lists(st.integers(0, 10**7), min_size=0, max_size=120)


@given(VALUES, st.integers(0, 10**9), st.integers(0, 31 * 24 + 30))
def test_a_forecast_never_falls_below_what_is_counted(
    values: list[int], so_far: int, hours: int
) -> None:
    now = START + timedelta(hours=hours)
    today = now.date()
    daily = {today - timedelta(index): Decimal(value) for index, value in enumerate(values)}
    found = at(now, daily, so_far)
    assert found.total >= so_far
    if found.interval is not None:
        assert so_far <= found.interval.low <= found.total <= found.interval.high
    totals = [point.expected for point in found.path]
    assert totals == sorted(totals)


# -- choosing ----------------------------------------------------------------------------------


def noisy(count: int, seed: int, growth: float = 0.0) -> dict[date, Decimal]:
    source = random.Random(seed)
    found = {}
    for index in range(count):
        day = FIRST + timedelta(index)
        weekday = 0.4 if day.weekday() >= 5 else 1.24
        level = 1000 * math.exp(growth * index) * weekday * source.lognormvariate(0, 0.15)
        found[day] = Decimal(round(level))
    return found


def test_origins_lie_between_training_and_the_last_whole_horizon() -> None:
    found, horizon = origins(60, 20)
    assert (found[0], found[-1], horizon, len(found)) == (14, 40, 20, 24)
    assert origins(19, 30) == ([14, 15, 16, 17], 2)
    assert origins(17, 30)[0] == [] or len(origins(17, 30)[0]) < 4


def test_the_damped_trend_is_fitted_by_statsmodels_and_can_be_chosen() -> None:
    daily = noisy(90, 5, growth=0.03)
    history = history_of(daily, today=date(2025, 4, 1))
    choice = choose(history, horizon_days=7, methods=ALL)
    assert {score.method for score in choice.candidates} == set(ALL)
    assert choice.method is Method.DAMPED_TREND
    assert len(choice.parameters) == 4
    assert choice.parameters != TREND_DEFAULT


def test_a_cached_choice_is_used_as_it_is() -> None:
    choice = Choice(Method.DAMPED_TREND, TREND_DEFAULT)
    daily = noisy(69, 1)
    found = at(NOON_11, daily, 9000, choice=choice)
    assert found.method is Method.DAMPED_TREND
    history = history_of(daily, today=NOON_11.date())
    values = ahead(history, 21, Method.DAMPED_TREND, TREND_DEFAULT)
    assert found.total == 9000 + round(sum(values) - values[0] / 2)


def test_a_cached_choice_that_needs_more_history_is_not_used() -> None:
    choice = Choice(Method.DAMPED_TREND, TREND_DEFAULT)
    found = at(NOON_11, days(10, first=date(2025, 3, 1)), 1050, choice=choice)
    assert found.method is Method.RUN_RATE


def test_the_interval_holds_about_as_often_as_it_says() -> None:
    periods = [
        (datetime(2025, month, 1, tzinfo=UTC), datetime(2025, month + 1, 1, tzinfo=UTC))
        for month in (3, 4, 5, 6)
    ]
    trials = [trial for seed in range(15) for trial in evaluate(noisy(181, seed), periods)]
    found = summarise(trials)
    assert found.trials == 180
    assert found.coverage is not None
    assert 0.7 <= found.coverage <= 0.97
    assert found.mean_error < found.ratio_mean_error


def test_a_trial_sees_nothing_of_its_future() -> None:
    daily = noisy(120, 9)
    march = [(START, END)]
    changed = {day: value * (7 if day >= date(2025, 4, 1) else 1) for day, value in daily.items()}
    assert evaluate(daily, march) == evaluate(changed, march)


def test_importing_forecasting_does_not_import_statsmodels() -> None:
    code = (
        "import sys, billing.forecasting; "
        "print([m for m in ('statsmodels', 'numpy', 'django') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- dates -------------------------------------------------------------------------------------


def test_a_tier_is_entered_past_its_end_and_a_cap_reached_at_it() -> None:
    found = at(datetime(2025, 3, 11, tzinfo=UTC), until(date(2025, 3, 11)), 1000)
    cap, tier = quantity_reached(found, Decimal(2000)), tier_entered(found, Decimal(2000))
    assert cap.on == cap.earliest == cap.latest == date(2025, 3, 20)
    assert tier is not None
    assert tier.on == date(2025, 3, 21)
    assert tier_entered(found, None) is None


def test_a_limit_already_reached_or_out_of_reach() -> None:
    found = at(datetime(2025, 3, 11, tzinfo=UTC), until(date(2025, 3, 11)), 1000)
    assert quantity_reached(found, Decimal(1000)).already
    never = quantity_reached(found, Decimal(10**6))
    assert (never.on, never.earliest, never.latest, never.already) == (None, None, None, False)


def test_an_uncertain_forecast_gives_an_earliest_and_a_latest_day() -> None:
    daily = noisy(69, 2)
    found = at(datetime(2025, 3, 11, tzinfo=UTC), daily, 10000)
    reached = quantity_reached(found, Decimal(20000))
    assert reached.on is not None
    assert reached.earliest is not None
    assert reached.earliest <= reached.on
    assert reached.latest is None or reached.on <= reached.latest


def test_a_budget_counts_all_metrics_together() -> None:
    now = datetime(2025, 3, 11, tzinfo=UTC)
    calls = at(now, until(date(2025, 3, 11)), 1000)
    bytes_ = at(now, until(date(2025, 3, 11), 10), 100)
    both = {"calls": calls, "bytes": bytes_}

    def cost(usage: object) -> Decimal:
        return usage["calls"] + 10 * usage["bytes"]  # type: ignore[index]

    assert budget_reached(both, cost, 3000).on == date(2025, 3, 15)
    assert budget_reached(both, cost, 2000).already
    assert budget_reached(both, cost, 10**9).on is None


# -- levels ------------------------------------------------------------------------------------


def test_a_last_value_carries_on_and_its_range_is_that_of_past_changes() -> None:
    daily = {FIRST + timedelta(i): Decimal(100 + 10 * (i % 2)) for i in range(60)}
    found = forecast_level(
        daily,
        current=Decimal(105),
        period_end=datetime(2025, 3, 5, tzinfo=UTC),
        now=datetime(2025, 3, 2, tzinfo=UTC),
        level=Level.LAST,
    )
    assert (found.total, found.interval) == (105, Interval(Decimal(95), Decimal(115)))
    peak = forecast_level(
        daily,
        current=Decimal(105),
        period_end=datetime(2025, 3, 5, tzinfo=UTC),
        now=datetime(2025, 3, 2, tzinfo=UTC),
        level=Level.PEAK,
    )
    assert peak.interval == Interval(Decimal(105), Decimal(115))


def test_a_level_with_gaps_keeps_the_value_before() -> None:
    daily = {FIRST: Decimal(50), FIRST + timedelta(40): Decimal(50)}
    found = forecast_level(
        daily,
        current=Decimal(50),
        period_end=END,
        now=datetime(2025, 3, 20, tzinfo=UTC),
        level=Level.LAST,
    )
    assert found.interval == Interval(Decimal(50), Decimal(50))


def test_a_young_level_has_no_interval() -> None:
    found = forecast_level(
        {FIRST: Decimal(5)}, current=Decimal(5), period_end=END, now=START, level=Level.PEAK
    )
    assert found.interval is None or found.history_days > 30
