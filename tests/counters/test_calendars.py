"""Billing calendars: Stripe's anchor rules, daylight saving, and periods that tile."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from dateutil import tz
from dateutil.relativedelta import relativedelta
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from counters.calendars import Calendar, Cut
from stripemeter.lib.periods import Period, utc_month


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def starts(calendar: Calendar, count: int) -> list[str]:
    return [calendar.boundary(number).strftime("%Y-%m-%d") for number in range(count)]


def test_an_anchor_on_the_31st_clamps_and_comes_back() -> None:
    calendar = Calendar(at("2026-01-31T10:00:00Z"))
    assert starts(calendar, 6) == [
        "2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31", "2026-06-30",
    ]  # fmt: skip


def test_an_anchor_on_the_30th_clamps_only_in_february() -> None:
    calendar = Calendar(at("2027-12-30T00:00:00Z"))
    assert starts(calendar, 4) == ["2027-12-30", "2028-01-30", "2028-02-29", "2028-03-30"]


def test_an_anchor_on_29_february_returns_in_leap_years() -> None:
    calendar = Calendar(at("2024-02-29T00:00:00Z"), "year")
    assert starts(calendar, 5) == [
        "2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29",
    ]  # fmt: skip


def test_a_local_midnight_stays_at_midnight_over_both_clock_changes() -> None:
    calendar = Calendar(at("2026-03-28T00:00:00+01:00"), "day", zone="Europe/Berlin")
    lengths = [
        (calendar.boundary(n + 1) - calendar.boundary(n)).total_seconds() / 3600 for n in range(3)
    ]
    assert lengths == [24, 23, 24]
    autumn = calendar.period_of(at("2026-10-25T12:00:00Z"))
    assert autumn.length == timedelta(hours=25)


def test_a_boundary_in_the_spring_gap_moves_forward_and_one_in_the_overlap_is_the_first() -> None:
    calendar = Calendar(at("2026-03-01T02:30:00+01:00"), "day", zone="Europe/Berlin")
    assert calendar.boundary(28) == at("2026-03-29T03:30:00+02:00")
    assert calendar.period_of(at("2026-10-25T12:00:00Z")).start == at("2026-10-25T02:30:00+02:00")


def test_a_day_that_a_zone_skipped_holds_no_period() -> None:
    calendar = Calendar(at("2011-12-28T12:00:00-10:00"), "day", zone="Pacific/Apia")
    found = list(Cut(calendar).periods(at("2011-12-28T00:00:00Z"), at("2012-01-03T00:00:00Z")))
    assert all(one.end == two.start for one, two in pairwise(found))
    assert all(period.start < period.end for period in found)


@pytest.mark.parametrize(
    ("offset", "expected"), [(-1, "2026-01-31"), (0, "2026-02-28"), (1, "2026-02-28")]
)
def test_the_start_belongs_to_a_period_and_the_end_to_the_next(offset: int, expected: str) -> None:
    calendar = Calendar(at("2026-01-31T10:00:00Z"))
    instant = at("2026-02-28T10:00:00Z") + timedelta(microseconds=offset)
    assert calendar.period_of(instant).start.strftime("%Y-%m-%d") == expected


def test_without_a_calendar_periods_are_utc_months() -> None:
    instant = at("2026-11-30T23:59:59.999999Z")
    assert Cut().period_of(instant) == utc_month(instant)


def test_fixed_periods_stay_and_their_neighbours_are_clipped() -> None:
    november = utc_month(at("2026-11-15T00:00:00Z"))
    cut = Cut(Calendar(at("2026-01-10T00:00:00Z")), (november,))
    found = list(cut.periods(at("2026-10-05T00:00:00Z"), at("2027-01-12T00:00:00Z")))
    assert found == [
        Period(at("2026-09-10T00:00:00Z"), at("2026-10-10T00:00:00Z")),
        Period(at("2026-10-10T00:00:00Z"), at("2026-11-01T00:00:00Z")),
        november,
        Period(at("2026-12-01T00:00:00Z"), at("2026-12-10T00:00:00Z")),
        Period(at("2026-12-10T00:00:00Z"), at("2027-01-10T00:00:00Z")),
        Period(at("2027-01-10T00:00:00Z"), at("2027-02-10T00:00:00Z")),
    ]


# --- The independent oracle: dateutil's calendar arithmetic and its own zone reader --------

ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe",
    "Pacific/Kiritimati", "Etc/GMT+12", "America/Sao_Paulo", "Africa/Casablanca", "Asia/Tehran",
    "Pacific/Apia", "America/St_Johns", "Europe/Dublin",
]  # fmt: skip


def oracle_boundary(calendar: Calendar, number: int) -> datetime:
    zone = tz.UTC if calendar.zone == "UTC" else tz.gettz(calendar.zone)
    wall = calendar.anchor.astimezone(zone).replace(tzinfo=None)
    step = relativedelta(**{f"{calendar.interval}s": number * calendar.interval_count})
    if number == 0:
        return calendar.anchor
    local = (wall.replace(fold=0) + step).replace(tzinfo=zone)
    return tz.resolve_imaginary(local).astimezone(UTC)


# Hypothesis takes naive bounds and adds the zone.
FIRST, LAST = datetime(2000, 1, 1), datetime(2036, 1, 1)  # noqa: DTZ001
calendars = st.builds(
    Calendar,
    anchor=st.datetimes(FIRST, LAST, timezones=st.just(UTC))
    | st.builds(
        lambda year, month, back, second: (
            datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
            - timedelta(days=back)
            + timedelta(seconds=second)
        ),
        st.integers(2001, 2035),
        st.integers(0, 11),
        st.integers(0, 3),
        st.integers(0, 86_399),
    ),
    interval=st.sampled_from(["day", "week", "month", "year"]),
    interval_count=st.integers(1, 3),
    zone=st.sampled_from(ZONES),
)


@settings(max_examples=400)
@given(calendars, st.integers(-400, 400))
def test_boundaries_equal_the_oracles(calendar: Calendar, number: int) -> None:
    # dateutil reads the first block of zone files only, which ends in 2037.
    years = {"day": 1 / 365, "week": 1 / 52, "month": 1 / 12, "year": 1.0}[calendar.interval]
    number = int(number * 0.09) if calendar.interval == "year" else number // 2
    assume(1985 < calendar.anchor.year + number * calendar.interval_count * years < 2036)
    assert calendar.boundary(number) == oracle_boundary(calendar, number)


@settings(max_examples=200)
@given(calendars, st.datetimes(FIRST, LAST))
def test_periods_tile_and_hold_their_instants(calendar: Calendar, moment: datetime) -> None:
    instant = moment.replace(tzinfo=UTC)
    previous = None
    for period in Cut(calendar).periods(instant, instant + timedelta(days=120)):
        if previous is None:
            assert instant in period
        else:
            assert previous.end == period.start
        assert calendar.period_of(period.start) == period
        assert calendar.period_of(period.end - timedelta(microseconds=1)) == period
        previous = period


@pytest.mark.parametrize("day", range(1, 32))
def test_each_anchor_day_matches_the_oracle_for_four_years(day: int) -> None:
    calendar = Calendar(datetime(2027, 1, day, 7, 30, tzinfo=UTC))
    for number in range(-12, 48):
        assert calendar.boundary(number) == oracle_boundary(calendar, number)
