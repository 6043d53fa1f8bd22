"""Every cause, made to happen at the sandbox and named by the next run."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange

from billing.models import CustomerLink, Push
from billing.services import accounts, delivery
from billing.stripe.client import client_for
from counters.models import BillingPeriod, Counter
from reconciliation.models import Finding, Run
from tests.builders.billing import at
from tests.reconciliation.injecting import foreign
from tests.reconciliation.running import lines, open_findings, reconcile, settled

EVENTS = "/v1/billing/meter_events"


def named(world) -> list[tuple[str, str, Decimal]]:
    """The next run's causes as (cause, customer, units)."""
    run = reconcile(world)
    return sorted(
        (part["cause"], line.customer_ref, Decimal(part["units"]))
        for line in lines(run)
        for part in line.causes
    )


@pytest.fixture
def mapped(world):
    world.mapping()
    return world


def test_in_flight(mapped):
    mapped.sandbox.fault("error_500_before", path=EVENTS, count=None)
    mapped.use(5)
    mapped.push()
    assert named(mapped) == [("in_flight", "c1", Decimal(5))]
    assert open_findings(mapped) == []
    mapped.move(hours=2)
    assert named(mapped) == [("in_flight", "c1", Decimal(5))]
    assert open_findings(mapped) == [("in_flight", "c1", Decimal(5))]


def test_an_answer_that_was_lost_is_in_flight_and_not_a_foreign_writer(mapped):
    mapped.sandbox.fault("error_500_after", path=EVENTS, count=None)
    mapped.use(5)
    mapped.push()
    assert mapped.at_stripe() == 5
    assert named(mapped) == [("in_flight", "c1", Decimal(5))]


def test_unpushed(mapped):
    mapped.use(5)
    settled(mapped)
    assert named(mapped) == [("unpushed", "c1", Decimal(5))]


def test_unpushed_for_want_of_a_customer(mapped):
    mapped.use(5, customer="c9")
    assert named(mapped) == [("unpushed", "c9", Decimal(5))]
    assert Finding.objects.get().evidence["why"] == "no Stripe customer is linked"


def test_lost_at_stripe(mapped):
    mapped.use(5)
    mapped.push()
    mapped.sandbox.fault("lose", path=EVENTS)
    mapped.use(4)
    mapped.push()
    settled(mapped)
    assert named(mapped) == [("lost_at_stripe", "c1", Decimal(4))]
    [found] = Finding.objects.all()
    assert found.push_ids == [Push.objects.get(value=4).id]
    assert found.evidence["pushes"][0]["identifier"] == Push.objects.get(value=4).identifier


def test_duplicated(mapped):
    mapped.sandbox.fault("duplicate", path=EVENTS)
    mapped.use(5)
    mapped.push()
    settled(mapped)
    assert named(mapped) == [("duplicated", "c1", Decimal(-5))]


def test_foreign_writer(mapped):
    mapped.use(5)
    mapped.push()
    foreign(mapped, 3)
    settled(mapped)
    assert named(mapped) == [("foreign_writer", "c1", Decimal(-3))]


def test_a_foreign_writer_who_writes_our_own_amount_in_another_hour(mapped):
    mapped.use(5, ts=at(18))
    mapped.push()
    foreign(mapped, 5, seconds_ago=2 * 86_400 + 3 * 3_600)
    settled(mapped)
    assert named(mapped) == [("foreign_writer", "c1", Decimal(-5))]


def test_async_rejected_although_no_webhook_told(mapped):
    mapped.sandbox.fault("async_reject", path=EVENTS)
    mapped.use(5)
    mapped.push()
    settled(mapped)
    assert named(mapped) == [("async_rejected", "c1", Decimal(5))]
    [push] = Finding.objects.get().evidence["pushes"]
    assert push["identifier"] == Push.objects.get().identifier
    assert push["webhookEvent"].startswith("evt_")


def test_async_rejected_as_the_webhook_told(mapped):
    mapped.use(5)
    mapped.push()
    push = Push.objects.get()
    # What the webhook service does when Stripe reports the rejection later.
    delivery.reject(
        pushes=[(push.tenant_id, push.id)],
        code="meter_event_invalid_value",
        message="reported",
        now=mapped.now,
        evidence='{"webhookEvent": "evt_7"}',
    )
    mapped.sandbox.reset()
    mapped.move(minutes=20)
    mapped.meter()
    CustomerLink.objects.all().delete()
    mapped.customer()
    assert named(mapped) == [("async_rejected", "c1", Decimal(5))]
    assert Finding.objects.get().evidence["pushes"][0]["webhookEvent"] == "evt_7"


def test_wrong_customer_because_the_link_was_changed(mapped):
    mapped.use(5)
    mapped.push()
    other = client_for("live").v1.customers.create({"name": "the right one"}).id
    CustomerLink.objects.filter(tenant=mapped.acme, customer_ref="c1").update(
        stripe_customer_id=other
    )
    settled(mapped)
    assert named(mapped) == [("wrong_customer", "c1", Decimal(5))]
    assert Finding.objects.get().evidence["belongsTo"] == other


def test_wrong_customer_because_stripe_booked_it_on_another(mapped):
    mapped.customer("c2")
    mapped.use(7, customer="c2")
    first = mapped.customers[mapped.acme.pk, "c1", "live"]
    mapped.sandbox.fault("lose", path=EVENTS, customer=first)
    mapped.use(5)
    mapped.push()
    foreign(mapped, 5, ref="c2")
    settled(mapped)
    assert named(mapped) == [
        ("wrong_customer", "c1", Decimal(5)),
        ("wrong_customer", "c2", Decimal(-5)),
    ]
    assert named(mapped)[0] == ("wrong_customer", "c1", Decimal(5))


def test_out_of_window(mapped):
    mapped.use(5, ts=at(5, month=10))
    mapped.move(days=18)
    mapped.push()
    assert named(mapped) == [("out_of_window", "c1", Decimal(5))]


def test_rounding_carry(world):
    world.mapping(unit_factor=1000, value_decimals=0)
    world.use(1500)
    world.push()
    settled(world)
    assert named(world) == [("rounding_carry", "c1", Decimal(0))]
    [found] = Finding.objects.all()
    assert (found.state, found.evidence["carry"]) == ("explained", "500")


def test_boundary_straddle(mapped):
    mapped.sandbox.fault("lose", path=EVENTS)
    mapped.use(5, ts=at(1, 10))
    mapped.push()
    before = mapped.now - datetime(2026, 10, 31, 23, 59, tzinfo=UTC)
    foreign(mapped, 5, seconds_ago=int(before.total_seconds()))
    settled(mapped)
    assert named(mapped) == [("boundary_straddle", "c1", Decimal(5))]


def test_meter_recreated(mapped):
    mapped.use(5)
    mapped.push()
    client = client_for("live")
    [old] = client.v1.billing.meters.list({"status": "active"}).data
    client.v1.billing.meters.deactivate(old.id)
    mapped.meter()
    settled(mapped)
    assert named(mapped) == [("meter_recreated", "c1", Decimal(5))]
    assert Finding.objects.get().evidence["meters"] == {old.id: "5"}


def test_late_after_freeze(mapped):
    mapped.use(5)
    mapped.push()
    november = DateTimeTZRange(at(1, 0), at(1, 0, month=12), "[)")
    BillingPeriod.objects.create(
        tenant=mapped.acme,
        customer_ref="c1",
        span=november,
        state="frozen",
        frozen_at=mapped.now,
    )
    mapped.move(minutes=5)
    mapped.use(4)
    mapped.push()
    settled(mapped)
    assert named(mapped) == [("late_after_freeze", "c1", Decimal(4))]


def test_counter_mismatch(mapped):
    mapped.use(5)
    mapped.push()
    Counter.objects.filter(tenant_id=mapped.acme.pk).update(sum=6)
    settled(mapped)
    assert ("counter_mismatch", "c1", Decimal(-1)) in named(mapped)


def _subscribe(world, prices: int = 1):
    """A classic subscription from 1 November on, with as many metered prices to choose from."""
    world.move(days=-19, hours=-12)
    client = client_for("live")
    [meter] = client.v1.billing.meters.list({"status": "active"}).data
    product = client.v1.products.create({"name": "Requests"}).id
    made = [
        client.v1.prices.create(
            {
                "currency": "usd",
                "product": product,
                "unit_amount": 5,
                "recurring": {"interval": "month", "usage_type": "metered", "meter": meter.id},
            }
        ).id
        for _ in range(prices)
    ]
    subscription = client.v1.subscriptions.create(
        {
            "customer": world.customers[world.acme.pk, "c1", "live"],
            "items": [{"price": made[0]}],
            "billing_mode": {"type": "classic"},
        }
    )
    return client, made, subscription["items"].data[0].id


def test_price_change_loss(world):
    client, (first, second), item = _subscribe(world, 2)
    world.mapping(price_id=first, effective_to=at(15, 0))
    world.mapping(price_id=second, effective_from=at(15, 0))
    world.move(days=5)
    world.use(10)
    world.push()
    world.move(days=9)
    client.v1.subscription_items.update(item, {"price": second, "proration_behavior": "none"})
    world.move(days=3)
    world.use(4)
    world.push()
    world.move(days=13, hours=3)
    assert named(world) == [("price_change_loss", "c1", Decimal(10))]


def test_usage_that_reached_stripe_after_the_invoice_was_final_is_late(world):
    _, (price,), _ = _subscribe(world)
    world.mapping(price_id=price)
    world.move(days=5)
    world.use(10)
    world.push()
    world.move(days=25, hours=1)
    world.move(hours=3)
    assert named(world) == []
    world.use(4, ts=at(30, 23))
    world.push()
    settled(world)
    assert named(world) == [("late_after_freeze", "c1", Decimal(4))]


def test_an_invoice_that_bills_everything_is_in_parity(world):
    _, (price,), _ = _subscribe(world)
    world.mapping(price_id=price)
    world.move(days=5)
    world.use(10)
    world.push()
    world.move(days=25, hours=4)
    [line] = lines(reconcile(world))
    assert (line.status, line.invoiced) == ("parity", Decimal(10))


BENIGN = ("error_500_after", "rate_limit", "lock_timeout", "drop_after", "error_503")


TOGETHER, LOOKS = 10, 3
#: Under a rate limit the account's bucket is empty and the world's clock stands still: a run of
#: pushing waits for it in vain, so it is not given long.
PUSH_SECONDS = 3.0


def _push_all(world) -> None:
    """Push until a run finds nothing to plan; an open breaker gets the time that it asks for.

    What is not pushed because nobody may push is rightly named: it is no clean life.
    """
    planned = world.push(seconds=PUSH_SECONDS).planned
    while planned or not accounts.may_send(world.account(), now=world.now):
        if not planned:
            world.move(seconds=30)
        planned = world.push(seconds=PUSH_SECONDS).planned


def _histories(world, looks: int, seed: int) -> int:
    """Random clean lives of customers, ten at a time, looked at at random moments; the runs."""
    dice = random.Random(seed)
    world.mapping()
    for first in range(0, looks // LOOKS * TOGETHER, TOGETHER):
        names = [f"n{first + place}" for place in range(TOGETHER)]
        for name in names:
            world.customer(name)
        world.sandbox.configure(summary_lag_seconds=dice.choice([0, 60, 600]))
        for _ in range(LOOKS):
            for name in dice.sample(names, 6):
                value = dice.choice(["1", "2.5", "1000", "0.000001", "7"])
                world.use(value, customer=name, ts=min(at(dice.randint(1, 20)), world.now))
                if dice.random() < 0.2:
                    world.sandbox.fault(dice.choice(BENIGN), path=EVENTS, seconds=0.01)
            if dice.random() < 0.8:
                _push_all(world)
            world.move(seconds=dice.choice([1, 30, 60]))
            reconcile(world)
            alarms = Finding.objects.filter(state="open")
            assert not alarms, [(each.cause, each.evidence) for each in alarms]
        _push_all(world)
        world.sandbox.clear_faults()
    for _ in range(4):
        # A call that a busy machine let run into its timeout is repeated later than others.
        world.settle()
        settled(world)
        run = reconcile(world)
        assert not open_findings(world)
        if run.parity == run.cursors:
            break
    assert (run.parity, run.drifting) == (run.cursors, 0)
    assert run.cursors > looks
    return Run.objects.count()


def test_clean_runs_give_no_false_alarm(world):
    assert _histories(world, 15, seed=1) >= 16


@pytest.mark.large
@pytest.mark.parametrize("seed", range(100, 163))
def test_a_thousand_clean_runs_give_no_false_alarm(world, seed):
    """63 worlds of at least 16 runs."""
    assert _histories(world, 15, seed=seed) >= 16


def test_a_finding_that_is_gone_is_closed_and_one_that_grows_is_open_again(mapped):
    mapped.use(5)
    mapped.push()
    foreign(mapped, 3)
    settled(mapped)
    reconcile(mapped)
    Finding.objects.update(state="accepted", decided_by="ada", note="known")
    reconcile(mapped)
    assert Finding.objects.get().state == "accepted"
    foreign(mapped, 8)
    settled(mapped)
    reconcile(mapped)
    found = Finding.objects.get()
    assert (found.state, found.units) == ("open", Decimal(-11))


def test_the_severity_follows_epsilon_and_nothing_is_hidden(mapped):
    mapped.use(10_000)
    mapped.push()
    foreign(mapped, 1)
    settled(mapped)
    reconcile(mapped)
    assert Finding.objects.get().severity == "warning"
    mapped.acme.epsilon = Decimal(0)
    mapped.acme.save()
    reconcile(mapped)
    assert Finding.objects.get().severity == "critical"


def test_a_finding_has_a_price(world):
    world.mapping(local_price={"model": "flat", "currency": "USD", "unitPrice": "0.05"})
    world.use(100)
    world.push()
    foreign(world, 7)
    settled(world)
    reconcile(world)
    found = Finding.objects.get()
    assert (found.amount_minor, found.currency) == (Decimal(-35), "USD")


def test_legacy_usage_records_are_compared_by_their_period(world):
    raw = client_for("live").raw_request
    old = {"stripe_version": "2025-02-24.acacia"}
    product = client_for("live").v1.products.create({"name": "Old"}).id
    recurring = {"interval": "month", "usage_type": "metered"}
    price = raw(
        "post", "/v1/prices", currency="usd", unit_amount=1, product=product,
        recurring=recurring, **old,
    )  # fmt: skip
    subscription = raw(
        "post", "/v1/subscriptions", customer=world.customers[world.acme.pk, "c1", "live"],
        items=[{"price": price.data["id"]}], backdate_start_date=int(at(1, 0).timestamp()),
        billing_cycle_anchor=int(at(1, 0, month=12).timestamp()), **old,
    )  # fmt: skip
    item = subscription.data["items"]["data"][0]["id"]
    world.mapping(
        metric="old", push_semantics="usage_record", value_decimals=0, subscription_item_id=item
    )
    for day, quantity in ((18, 3), (19, 4)):
        world.use(quantity, metric="old", ts=at(day))
    world.settle()
    settled(world)
    [line] = lines(reconcile(world))
    assert (line.status, line.stripe, line.basis["stripe"]) == ("parity", 7, {"period": "7"})

    def set_record(quantity: int, hour: int) -> None:
        raw(
            "post", f"/v1/subscription_items/{item}/usage_records", quantity=quantity,
            timestamp=int(at(19, hour).timestamp()), action="set", **old,
        )  # fmt: skip

    # Somebody else's record, then ours of the 19th wiped out as well.
    set_record(5, 3)
    assert named(world) == [("foreign_writer", "c1", Decimal(-5))]
    set_record(0, 3)
    stamped = Push.objects.get(delta=4).stamped_at
    raw(
        "post", f"/v1/subscription_items/{item}/usage_records", quantity=0,
        timestamp=int(stamped.timestamp()), action="set", **old,
    )  # fmt: skip
    assert named(world) == [("lost_at_stripe", "c1", Decimal(4))]
    assert Finding.objects.get(closed_at=None).push_ids == [Push.objects.get(delta=4).id]


def test_a_level_meter_is_compared_by_its_levels(world):
    world.meter("seats", formula="last")
    world.mapping(metric="seats", aggregation="last", push_semantics="level")
    world.use(5, metric="seats", ts=world.now - timedelta(hours=3))
    world.push()
    settled(world)
    world.use(3, metric="seats")
    world.push()
    settled(world)
    [line] = lines(reconcile(world))
    assert (line.status, line.stripe) == ("parity", Decimal(3))
    world.sandbox.fault("lose", path=EVENTS)
    world.use(9, metric="seats", ts=world.now - timedelta(minutes=1))
    world.push()
    settled(world)
    assert named(world) == [("lost_at_stripe", "c1", Decimal(6))]


def test_usage_events_of_another_tenant_are_never_evidence(mapped):
    mapped.mapping(tenant=mapped.globex)
    mapped.use(5)
    mapped.use(6, tenant=mapped.globex)
    mapped.push()
    settled(mapped)
    assert named(mapped) == []
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM reconciliation_reportline")
        assert cursor.fetchone() == (1,)
