"""Catching up over the v2 stream, and meters that count windows: exact all the same."""

from datetime import datetime
from decimal import Decimal

import pytest

from billing import selectors, slicing
from billing.models import Push, PushAttempt, PushCursor
from billing.services import mappings, planning
from billing.stripe import meters
from billing.stripe.driver import bulk_driver_for
from counters.services.calendars import set_calendar
from stripemeter.lib.errors import InvalidRequest
from stripemeter.lib.periods import Period
from tests.builders.billing import NOW, World, at

CUSTOMERS = [f"c{number}" for number in range(2, 32)]


@pytest.fixture
def behind(world: World, settings) -> World:
    """Thirty-one customers that were pushed before and have new usage each."""
    settings.STRIPE_BULK_FROM = 10
    bulk_driver_for.cache_clear()  # the session of a test before
    world.mapping()
    for ref in CUSTOMERS:
        world.customer(ref)
    for ref in ["c1", *CUSTOMERS]:
        world.use(2, customer=ref)
    world.push()
    for number, ref in enumerate(["c1", *CUSTOMERS]):
        world.use(number + 1, customer=ref)
    return world


def assert_all_said_once(world: World) -> None:
    for number, ref in enumerate(["c1", *CUSTOMERS]):
        assert world.at_stripe(ref) == Decimal(number + 3)
    assert not Push.objects.exclude(state="acknowledged").exists()
    assert selectors.slices_that_disagree() == []


def test_a_first_push_goes_alone_and_a_backlog_goes_by_the_hundred(behind):
    before = behind.sandbox.stats()["requests"]
    report = behind.push()
    assert report.outcomes == {"accepted": 31}
    # One session and one batch; the thirty-one first pushes went over v1.
    assert behind.sandbox.stats()["requests"] - before == 2
    assert_all_said_once(behind)


@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "error_500_after", "error_503"])
def test_a_batch_without_an_answer_is_asked_about_one_by_one(behind, kind):
    behind.sandbox.fault(kind, path="/v2/billing/meter_event_stream", count=1)
    behind.push()
    assert behind.account().failures == 1, "one call, one failure"
    behind.settle()
    assert_all_said_once(behind)
    outcomes = set(PushAttempt.objects.values_list("outcome", flat=True))
    expected = "duplicate" if kind in {"drop_after", "error_500_after"} else "accepted"
    assert {"unknown", expected} <= outcomes


def test_an_expired_session_is_renewed_and_decreases_go_alone(behind):
    behind.push()
    behind.move(minutes=20)
    for ref in CUSTOMERS:
        behind.use(1, customer=ref)
    behind.push()
    for number, ref in enumerate(CUSTOMERS, 1):
        assert behind.at_stripe(ref) == Decimal(number + 4)


def test_the_stream_can_be_switched_off(behind, settings):
    settings.STRIPE_BULK_FROM = 0
    before = behind.sandbox.stats()["requests"]
    behind.push()
    assert behind.sandbox.stats()["requests"] - before == 31
    assert_all_said_once(behind)


@pytest.mark.parametrize(("window", "semantics"), [("hour", "hour_total"), ("day", "window_total")])
def test_a_meter_that_counts_windows_ends_with_the_total(world, window, semantics):
    world.meter("bytes", event_time_window=window)
    world.mapping(metric="bytes", push_semantics=semantics)
    total = 0
    for day, hour, quantity in [(18, 3, 4), (20, 1, 5), (20, 7, 6), (20, 11, 7), (18, 9, 8)]:
        world.use(quantity, metric="bytes", ts=at(day, hour))
        total += quantity
        world.settle()
        world.move(minutes=70)
    assert summed(world, "bytes") == total


def summed(world: World, event_name: str) -> Decimal:
    """What Stripe's own summary of the month says."""
    meter = meters.find_meter(mode="live", account="default", event_name=event_name)
    assert meter is not None
    return meters.read_total(
        mode="live",
        account="default",
        meter_id=meter["id"],
        customer=world.customers[world.acme.pk, "c1", "live"],
        start=at(1, 0),
        end=at(1, 0, month=12),
    )


def test_a_window_that_stripe_no_longer_takes_overwrites_no_other():
    november = Period(at(1, 0), at(1, 0, month=12))
    late = at(10, month=12)
    assert slicing.stamp(at(2).date(), bounds=november, now=late).displaced
    for semantics in ("hour_total", "window_total"):
        assert planning._stamp(semantics, at(2).date(), november, late) is None
        assert planning._stamp(semantics, at(20).date(), november, late) is not None
    first = planning._stamp("hour_total", at(20).date(), november, late)
    assert first.at == at(20, 0)


def cut(world: World, start: datetime, interval: str = "day") -> None:
    set_calendar(
        tenant_id=world.acme.pk,
        customer_ref=None,
        anchor=start,
        interval=interval,
        actor="test",
        now=world.now,
    )


def test_two_periods_that_meet_in_a_day_keep_to_hours_of_their_own(world):
    cut(world, at(1, 10).replace(minute=30))
    world.meter("bytes", event_time_window="hour")
    world.mapping(metric="bytes", push_semantics="hour_total")
    world.use(4, metric="bytes", ts=at(20, 10))
    world.use(3, metric="bytes", ts=at(20, 10).replace(minute=45))
    world.settle()
    world.use(5, metric="bytes", ts=at(20, 10).replace(minute=15))
    world.use(6, metric="bytes", ts=at(20, 11))
    world.settle()
    assert summed(world, "bytes") == 18
    stamps = Push.objects.order_by("stamped_at").values_list("stamped_at", flat=True).distinct()
    assert list(stamps) == [at(20, 0), at(20, 11)]


@pytest.mark.parametrize(
    ("semantics", "start"),
    [("window_total", at(1, 10)), ("hour_total", at(1, 0).replace(minute=30))],
)
def test_a_window_that_two_periods_share_is_refused(world, semantics, start):
    window = semantics.removesuffix("_total").replace("window", "day")
    world.meter("bytes", event_time_window=window)
    world.mapping(metric="bytes", push_semantics=semantics)
    cut(world, start)
    world.use(4, metric="bytes")
    world.push()
    assert not Push.objects.exists()
    assert "inside a" in PushCursor.objects.get().held_reason
    actor = mappings.Actor(world.acme.pk, "test", NOW)
    values = {"aggregation": "sum", "push_semantics": semantics, "stripe_account": "default",
              "price_id": "price_1"}  # fmt: skip
    with pytest.raises(InvalidRequest, match="starts or ends inside"):
        mappings.create_mapping(actor=actor, metric="other", values=values)


def test_what_has_no_daily_total_is_refused_for_an_hourly_window(world):
    actor = mappings.Actor(world.acme.pk, "test", NOW)
    with pytest.raises(InvalidRequest, match="hourly window"):
        mappings.create_mapping(
            actor=actor,
            metric="peak",
            values={
                "aggregation": "max",
                "push_semantics": "hour_total",
                "stripe_account": "default",
                "price_id": "price_1",
            },
        )
