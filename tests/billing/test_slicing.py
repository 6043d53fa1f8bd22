"""The algebra of deltas: nothing is lost, invented or said twice, whatever the rounding."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import slicing
from billing.slicing import Step
from stripemeter.lib.decimals import digits_and_decimals
from stripemeter.lib.periods import Period, utc_month

DAYS = [date(2026, 11, day) for day in range(1, 31)]
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
NOVEMBER = utc_month(NOW)
MAPPING = UUID(int=7)
OCTOBER = datetime(2026, 10, 1)  # noqa: DTZ001  Hypothesis wants naive bounds

quantities = st.decimals(
    min_value=Decimal(-(10**9)), max_value=Decimal(10**12), places=6, allow_nan=False
)
totals_by_day = st.dictionaries(st.sampled_from(DAYS), quantities, max_size=8)
steps = st.builds(
    Step,
    unit_factor=st.sampled_from([Decimal(1), Decimal("0.5"), Decimal(3), Decimal(1024)]),
    decimals=st.sampled_from([0, 2, 12]),
)


def apply(intended: dict[date, Decimal], found: slicing.Deltas) -> None:
    for each in found.members:
        intended[each.day] = intended.get(each.day, Decimal(0)) + each.delta


@given(st.lists(totals_by_day, min_size=1, max_size=5), steps)
def test_increments_end_at_the_floor_of_the_total_with_the_rest_carried(history, step):
    intended: dict[date, Decimal] = {}
    for totals in history:
        for _ in range(60):
            found = slicing.increments(totals, intended, step)
            apply(intended, found)
            if found.complete:
                break
        total = sum(totals.values(), Decimal(0))
        sent = sum(intended.values(), Decimal(0))
        assert found.complete
        assert sent * step.unit_factor + found.carry == total
        assert 0 <= found.carry < step.unit_factor * step.size
        assert not slicing.increments(totals, intended, step).members


@given(totals_by_day, steps)
def test_no_value_has_more_digits_than_stripe_takes(totals, step):
    for each in slicing.increments(totals, {}, step).members:
        assert digits_and_decimals(each.value)[0] <= 15
        assert abs(each.value) < 10**15
        assert digits_and_decimals(each.value)[1] <= step.decimals


@given(totals_by_day)
def test_whole_steps_say_each_day_exactly(totals):
    found = slicing.increments(totals, {}, Step())
    said = {each.day: each.delta for each in found.members}
    assert said == {day: slicing.fit(total) for day, total in totals.items() if total}


def test_fractions_of_several_days_make_units_together():
    totals = {DAYS[0]: Decimal("0.6"), DAYS[1]: Decimal("0.7")}
    found = slicing.increments(totals, {}, Step(decimals=0))
    assert [(each.day, each.value) for each in found.members] == [(DAYS[1], Decimal(1))]
    assert found.carry == Decimal("0.3")


def test_a_late_fraction_moves_no_unit_that_was_said():
    intended = {DAYS[1]: Decimal(1)}
    totals = {DAYS[0]: Decimal("1.2"), DAYS[1]: Decimal("0.7")}
    assert slicing.increments(totals, intended, Step(decimals=0)).members == []


def test_decreases_come_before_increases():
    totals = {DAYS[0]: Decimal(9), DAYS[1]: Decimal(1)}
    found = slicing.increments(totals, {DAYS[1]: Decimal(5)}, Step())
    assert [each.delta for each in found.members] == [Decimal(-4), Decimal(9)]


def test_a_value_of_sixteen_digits_is_said_in_two_parts():
    totals = {DAYS[0]: Decimal("1234567890.123456")}
    intended: dict[date, Decimal] = {}
    first = slicing.increments(totals, intended, Step())
    assert [each.value for each in first.members] == [Decimal("1234567890.12345")]
    assert not first.complete
    apply(intended, first)
    second = slicing.increments(totals, intended, Step())
    assert [each.value for each in second.members] == [Decimal("0.000006")]
    assert second.complete


@given(st.lists(quantities, min_size=1, max_size=8))
def test_increments_of_a_moving_level_always_sum_to_the_level(levels):
    intended: dict[date, Decimal] = {}
    for level in levels:
        for _ in range(4):
            sent = sum(intended.values(), Decimal(0))
            found = slicing.level_increment(level, sent, Step(), DAYS[3])
            apply(intended, found)
        assert sum(intended.values(), Decimal(0)) == level


@given(st.lists(quantities, min_size=1, max_size=8))
def test_levels_are_said_absolutely_and_only_when_they_move(levels):
    sent = Decimal(0)
    for level in levels:
        found = slicing.level(level, sent, Step(decimals=0), DAYS[3])
        for each in found.members:
            sent += each.delta
            assert each.value == sent
        assert slicing.level(level, sent, Step(decimals=0), DAYS[3]).members == []


@given(st.lists(totals_by_day, min_size=1, max_size=4), steps)
def test_window_totals_sum_to_the_floor_of_the_total(history, step):
    intended: dict[date, Decimal] = {}
    held: dict[date, Decimal] = {}
    for totals in history:
        found = slicing.window_totals(totals, intended, step)
        if found.refusal:
            return
        for each in found.members:
            held[each.day] = each.value
        apply(intended, found)
        assert {d: v for d, v in held.items() if v} == {d: v for d, v in intended.items() if v}
        assert sum(held.values(), Decimal(0)) == step.floor(sum(totals.values(), Decimal(0)))


def test_count_meters_get_one_event_per_unit_and_no_corrections():
    found = slicing.single_events({DAYS[0]: Decimal(3)}, {}, at_most=2)
    assert [each.value for each in found.members] == [Decimal(1), Decimal(1)]
    assert not found.complete
    refused = slicing.single_events({DAYS[0]: Decimal(1)}, {DAYS[0]: Decimal(2)}, at_most=9)
    assert refused.refusal


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        (date(2026, 11, 20), NOW),
        (date(2026, 11, 19), datetime(2026, 11, 19, 23, 59, 59, tzinfo=UTC)),
        (date(2026, 11, 1), datetime(2026, 11, 1, 23, 59, 59, tzinfo=UTC)),
        (date(2026, 11, 22), None),
    ],
)
def test_a_slice_is_stamped_inside_its_own_day(day, expected):
    found = slicing.stamp(day, bounds=NOVEMBER, now=NOW)
    assert (found and found.at) == expected
    assert found is None or not found.displaced


def test_a_slice_too_old_for_stripe_is_displaced_within_its_period():
    period = Period(datetime(2026, 10, 5, 7, 30, tzinfo=UTC), datetime(2026, 11, 5, tzinfo=UTC))
    found = slicing.stamp(date(2026, 10, 6), bounds=period, now=NOW)
    assert found == slicing.Stamp(NOW - timedelta(days=34), displaced=True)
    assert found.at in period


def test_a_period_that_is_all_too_old_has_no_stamp():
    period = Period(datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC))
    assert slicing.stamp(date(2026, 9, 30), bounds=period, now=NOW) is None


@given(
    st.datetimes(min_value=OCTOBER, max_value=OCTOBER + timedelta(days=80), timezones=st.just(UTC)),
    st.datetimes(min_value=OCTOBER, max_value=OCTOBER + timedelta(days=60), timezones=st.just(UTC)),
    st.integers(0, 40),
)
def test_every_stamp_lies_in_its_period_and_in_what_stripe_takes(now, start, offset):
    bounds = Period(start, start + timedelta(days=31))
    found = slicing.stamp((start + timedelta(days=offset)).date(), bounds=bounds, now=now)
    if found:
        assert found.at in bounds
        assert now - timedelta(days=35) < found.at <= now + timedelta(minutes=5)
        assert found.at.microsecond == 0


@given(
    st.datetimes(min_value=OCTOBER, max_value=OCTOBER + timedelta(days=80), timezones=st.just(UTC)),
    st.datetimes(min_value=OCTOBER, max_value=OCTOBER + timedelta(days=60), timezones=st.just(UTC)),
    st.integers(0, 32),
)
def test_a_total_is_set_at_one_instant_of_its_slice_whenever_it_is_said(now, start, offset):
    bounds = Period(start, start + timedelta(days=31))
    day = (start + timedelta(days=offset)).date()
    found = slicing.set_stamp(day, bounds=bounds, now=now)
    if found:
        assert found.at in bounds
        assert found.at.date() == day
        assert found.at <= now
        later = now + timedelta(days=400)
        assert slicing.set_stamp(day, bounds=bounds, now=later) == found
        assert not found.displaced


references = st.text(min_size=1, max_size=255)


@given(references, references, st.integers(1, 10**9))
def test_identifiers_are_short_plain_and_differ_between_customers(one, other, sequence):
    def name(reference):
        return slicing.identifier(
            mode="live",
            mapping_id=MAPPING,
            customer_ref=reference,
            period_start=NOVEMBER.start,
            day=DAYS[0],
            sequence=sequence,
        )

    assert len(name(one)) <= 100
    assert name(one).isascii()
    assert (name(one) == name(other)) == (one == other)
