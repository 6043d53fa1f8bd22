"""What Stripe holds after pushing is what the counters hold, said once."""

from datetime import date, timedelta
from decimal import Decimal

from billing.models import Push, PushCursor, PushSlice
from billing.stripe import client
from tests.builders.billing import at


def test_usage_reaches_stripe_once_in_slices_of_utc_days(world):
    world.mapping()
    world.use(5, ts=at(18))
    world.use("2.25", ts=at(18, 12))
    world.use(3)
    report = world.push()
    assert report.acknowledged == 2
    assert world.at_stripe() == Decimal("10.25")
    days = {each.slice_day: each.value for each in Push.objects.all()}
    assert days == {date(2026, 11, 18): Decimal("7.25"), date(2026, 11, 20): Decimal(3)}
    assert world.push().outcomes == {}
    assert world.at_stripe() == Decimal("10.25")


def test_only_the_difference_is_pushed(world):
    world.mapping()
    world.use(5)
    world.push()
    world.use(4)
    world.push()
    values = list(Push.objects.order_by("sequence").values_list("value", flat=True))
    assert values == [Decimal(5), Decimal(4)]
    assert world.at_stripe() == Decimal(9)


def test_tenants_and_customers_never_mix(world):
    world.mapping()
    world.mapping(tenant=world.globex)
    world.customer("c2")
    world.use(5)
    world.use(7, customer="c2")
    world.use(11, tenant=world.globex)
    world.push()
    assert world.at_stripe() == Decimal(5)
    assert world.at_stripe("c2") == Decimal(7)
    assert world.at_stripe(tenant=world.globex) == Decimal(11)
    world.use(1)
    world.use(2, customer="c2")
    world.use(3, tenant=world.globex)
    world.push()
    assert world.at_stripe() == Decimal(6)
    assert world.at_stripe("c2") == Decimal(9)
    assert world.at_stripe(tenant=world.globex) == Decimal(14)


def test_a_total_that_returns_to_an_old_value_is_said_each_time(world):
    world.mapping(aggregation="last")
    for hours, quantity in enumerate([5, 3, 5, 3]):
        world.use(quantity, ts=world.now - timedelta(hours=6 - hours))
        world.settle()
        assert world.at_stripe() == quantity
    assert len({push.identifier for push in Push.objects.all()}) == 4


def test_a_customer_without_link_waits_and_is_pushed_once_linked(world):
    world.mapping()
    world.use(5, customer="c9")
    assert world.push().planned == 0
    world.customer("c9")
    world.push()
    assert world.at_stripe("c9") == Decimal(5)


def test_a_reference_that_is_a_stripe_id_needs_no_link(world):
    world.mapping()
    stripe_id = world.customers[world.acme.pk, "c1", "live"]
    world.use(6, customer=stripe_id)
    world.push()
    assert world.at_stripe() == Decimal(6)


def test_identifier_and_idempotency_key_are_one_and_stay_below_100_characters(world):
    world.mapping()
    world.use(1)
    world.push()
    push = Push.objects.get()
    (line,) = world.calls()
    assert line["identifier"] == line["idempotency_key"] == push.identifier
    assert len(push.identifier) <= 100


def test_values_are_said_in_plain_notation_with_at_most_15_digits(world):
    world.mapping()
    world.use("0.0000001")
    world.settle()
    assert [line["value"] for line in world.calls()] == ["0.0000001"]
    world.customer("c2")
    world.use("1234567890.1234567", customer="c2")
    world.settle()
    said = [line["value"] for line in world.calls()[1:]]
    assert said == ["1234567890.12345", "0.0000067"]
    assert world.at_stripe("c2") == Decimal("1234567890.1234567")


def test_a_total_that_cannot_be_said_in_parts_is_refused_before_it_is_sent(world):
    """A total of a window is one value: more than 15 digits hold the cursor, and say why."""
    world.meter("bytes", event_time_window="day")
    world.mapping(metric="bytes", push_semantics="window_total")
    world.use("1234567890.1234567", metric="bytes")
    world.settle()
    assert world.calls() == []
    assert "more digits than Stripe takes" in PushCursor.objects.get().held_reason


def test_clients_wait_3_and_10_seconds_and_leave_repeating_to_us(world):
    world.mapping()
    world.use(1)
    world.sandbox.fault("error_500_before", path="/v1/billing/meter_events", count=1)
    before = world.sandbox.stats()["requests"]
    world.push()
    assert world.sandbox.stats()["requests"] - before == 1
    timeout = client._shared_transport(False)._pool.connection_pool_kw["timeout"]
    assert (timeout.connect_timeout, timeout.read_timeout) == (3, 10)


def test_slices_equal_the_sum_of_their_pushes(world):
    world.mapping()
    for quantity in (1, 2, 3):
        world.use(quantity)
        world.push()
    assert PushSlice.objects.get().intended == Decimal(6)
    assert PushCursor.objects.get().next_sequence == 4


def test_usage_of_an_ended_period_is_stamped_inside_it(world):
    world.mapping()
    world.move(days=11, hours=13)  # the second of December, 01:00
    world.use(8, ts=at(30, 22))
    world.use(2, ts=world.now - timedelta(minutes=30))
    world.push()
    stamps = dict(Push.objects.values_list("value", "stamped_at"))
    assert stamps[Decimal(8)].month == 11
    assert stamps[Decimal(2)].month == 12
