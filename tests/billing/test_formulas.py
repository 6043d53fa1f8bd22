"""Every local total reaches every meter formula that can hold it."""

from datetime import timedelta
from decimal import Decimal

import pytest

from billing import formulas, selectors
from billing.models import Push, PushCursor
from billing.stripe.client import client_for
from billing.stripe.meters import find_meter, read_days, read_total
from counters.models import Counter, DailyRollup
from stripemeter.billing_driver import getUsageSummary, record_usage, recordUsage
from tests.builders.billing import at


def summary(world, event_name: str = "requests") -> Decimal:
    """What Stripe itself answers for November."""
    meter = find_meter(mode="live", account="default", event_name=event_name)
    return read_total(
        mode="live",
        account="default",
        meter_id=meter["id"],
        customer=world.customers[world.acme.pk, "c1", "live"],
        start=at(1, 0),
        end=at(1, 0, month=12),
    )


@pytest.mark.parametrize(
    ("aggregation", "expected"), [("max", [9, 9, 9]), ("min", [9, 4, 4]), ("last", [9, 4, 6])]
)
def test_a_moving_level_becomes_signed_increments_of_a_sum_meter(world, aggregation, expected):
    world.mapping(aggregation=aggregation)
    for hours, (quantity, wanted) in enumerate(zip([9, 4, 6], expected, strict=True)):
        world.use(quantity, ts=world.now - timedelta(hours=5 - hours))
        world.settle()
        assert world.at_stripe() == wanted
    assert selectors.slices_that_disagree() == []


def test_counts_go_to_a_sum_meter(world):
    world.mapping(aggregation="count")
    for _ in range(3):
        world.use(7)
    world.settle()
    assert world.at_stripe() == 3


def test_levels_go_absolutely_to_a_last_meter(world):
    world.meter("seats", formula="last")
    world.mapping(metric="seats", aggregation="last", push_semantics="level")
    for hours, quantity in enumerate([9, 4, 6]):
        world.use(quantity, metric="seats", ts=world.now - timedelta(hours=5 - hours))
        world.settle()
        world.move(minutes=1)
        assert summary(world, "seats") == quantity
    values = Push.objects.order_by("sequence").values_list("value", "delta")
    assert list(values) == [(9, 9), (4, -5), (6, 2)]


def test_one_event_per_unit_goes_to_a_count_meter(world):
    world.meter("jobs", formula="count")
    world.mapping(
        metric="jobs", aggregation="count", push_semantics="event_count", value_decimals=0
    )
    for _ in range(3):
        world.use(1, metric="jobs")
    world.settle()
    assert summary(world, "jobs") == 3


def test_daily_totals_go_to_a_sum_meter_with_a_daily_window(world):
    world.meter("bytes", event_time_window="day")
    world.mapping(metric="bytes", push_semantics="window_total")
    for quantity in (5, 3):
        world.use(quantity, metric="bytes", ts=at(19))
        world.use(quantity, metric="bytes")
        world.settle()
    assert summary(world, "bytes") == 16
    newest = Push.objects.order_by("-sequence").first()
    assert (newest.value, newest.delta) == (8, 3)


def test_daily_totals_go_to_a_legacy_item_as_set_records(world):
    client = client_for("live")
    product = client.v1.products.create({"name": "Old"}).id
    price = client.raw_request(
        "post",
        "/v1/prices",
        currency="usd",
        unit_amount=1,
        product=product,
        recurring={"interval": "month", "usage_type": "metered"},
        stripe_version="2025-02-24.acacia",
    )
    price_id = client.deserialize(price, api_mode="V1")["id"]
    subscription = client.raw_request(
        "post",
        "/v1/subscriptions",
        customer=world.customers[world.acme.pk, "c1", "live"],
        items=[{"price": price_id}],
        backdate_start_date=int(at(1, 0).timestamp()),
        stripe_version="2025-02-24.acacia",
    )
    item = client.deserialize(subscription, api_mode="V1")["items"]["data"][0]["id"]
    world.mapping(
        metric="old", push_semantics="usage_record", value_decimals=0, subscription_item_id=item
    )
    # `set` replaces what was set at its own instant only, whatever the hour of the push.
    total = 0
    for day, quantity in ((20, 5), (20, 3), (19, 4), (1, 2), (20, 1)):
        world.use(quantity, metric="old", ts=at(day, 11))
        world.settle()
        world.move(minutes=10)
        total += quantity
        assert of_item(world, item) == total
    world.move(days=9)
    world.use(6, metric="old", ts=at(20, 11))
    world.settle()
    assert of_item(world, item) == total + 6
    # By hand, at an instant of its own.
    recordUsage(
        mode="live", subscriptionItemId=item, quantity=7, periodStart=at(18), idempotencyKey="hand"
    )
    assert of_item(world, item) == total + 6 + 7


def of_item(world, item: str) -> Decimal:
    """What Stripe has of the legacy item's running period."""
    found = getUsageSummary(
        mode="live", subscriptionItemId=item, periodStart=world.now, periodEnd=world.now
    )
    assert found["eventuallyConsistent"] is False
    return found["total"]


def test_unit_factor_and_carry_never_lose_a_fraction_over_a_rollover(world):
    world.mapping(unit_factor=Decimal(1000), value_decimals=0)
    world.use(1500, ts=at(19))
    world.use("700.5")
    world.settle()
    assert world.at_stripe() == 2
    assert Push.objects.order_by("-sequence").first().carry == Decimal("200.5")
    world.move(days=11)
    world.use("799.5", ts=at(30))
    world.use(999, ts=world.now - timedelta(hours=1))
    world.settle()
    assert world.at_stripe() == 3  # 3000 of November; December's 999 make no unit
    november = Push.objects.filter(period_start=at(1, 0))
    assert sum(each.delta for each in november) == 3
    assert {each.stamped_at.month for each in november} == {11}


def test_refused_combinations_say_why():
    assert formulas.refusal("sum", "increment") is None
    for aggregation, semantics in (
        ("sum", "event_count"),
        ("max", "window_total"),
        ("last", "usage_record"),
        ("average", "increment"),
        ("sum", "nonsense"),
    ):
        assert formulas.refusal(aggregation, semantics)


def test_a_correction_on_a_count_meter_is_held_for_an_operator(world):
    world.meter("jobs", formula="count")
    world.mapping(
        metric="jobs", aggregation="count", push_semantics="event_count", value_decimals=0
    )
    for _ in range(2):
        world.use(1, metric="jobs")
    world.settle()
    DailyRollup.objects.update(event_count=1)
    Counter.objects.update(event_count=1, revision=99)
    world.push()
    assert "no corrections" in PushCursor.objects.get().held_reason
    assert summary(world, "jobs") == 2


def test_a_slice_too_old_for_stripe_is_displaced_inside_its_period(world):
    world.mapping()
    world.move(days=17)  # 7 December: 1 to 2 November are more than 34 days ago
    world.use(4, ts=at(1))
    world.use(3, ts=at(28))
    world.settle()
    displaced = Push.objects.get(displaced=True)
    assert displaced.slice_day.day == 1
    assert displaced.stamped_at.month == 11
    assert world.at_stripe() == 7


def test_the_public_driver_records_once_and_reads_back(world):
    customer = world.customers[world.acme.pk, "c1", "live"]
    named = {
        "mode": "live",
        "meter_event_name": "requests",
        "stripe_customer_id": customer,
        "quantity": "2.5",
        "timestamp": at(20),
        "idempotency_key": "mine-1",
    }
    assert not record_usage(**named).duplicate
    record_usage(**named)
    recordUsage(
        mode="live",
        meterEventName="requests",
        stripeCustomerId=customer,
        quantity=1,
        periodStart=at(20),
        idempotencyKey="mine-2",
    )
    assert summary(world) == Decimal("3.5")
    found = getUsageSummary(
        mode="live",
        meterEventName="requests",
        stripeCustomerId=customer,
        periodStart=at(20, 0),
        periodEnd=at(21, 0),
    )
    assert found["total"] == Decimal("3.5")
    meter = find_meter(mode="live", account="default", event_name="requests")
    days = read_days(
        mode="live",
        account="default",
        meter_id=meter["id"],
        customer=customer,
        start=at(19).date(),
        end=at(22).date(),
    )
    assert days[at(20).date()] == Decimal("3.5")
    with pytest.raises(ValueError, match="15 digits"):
        record_usage(**{**named, "quantity": "1234567890.123456"})
