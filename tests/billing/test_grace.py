"""Half of the grace is gone and units are unpushed: somebody is told, once."""

from datetime import timedelta

from prometheus_client import REGISTRY

from billing import selectors
from billing.models import Push, PushCursor
from billing.services import grace
from counters.services.period_states import set_period_state
from tests.builders.billing import World, at


def alerts() -> float:
    return REGISTRY.get_sample_value("grace_alerts_total") or 0.0


def ended(world: World) -> None:
    """October is over; its invoice is a draft that is final at noon of 1 November."""
    world.now = at(1, 0)
    world.move()
    set_period_state(
        tenant_id=world.acme.pk,
        customer_ref="c1",
        period_start=at(1, 0, month=10),
        state="closing",
        now=world.now,
        finalizes_at=at(1, 12),
    )


def test_unpushed_usage_is_told_once_when_half_of_the_grace_is_over(world, capsys):
    world.mapping()
    ended(world)
    world.use(7, ts=at(31, 20, month=10))
    (found,) = grace.in_grace(now=world.now)
    assert (found.unpushed, found.half_time) == (7, at(1, 6))
    before = alerts()
    world.push()
    assert grace.in_grace(now=world.now) == []
    world.use(5, ts=at(31, 21, month=10))
    PushCursor.objects.update(held_at=world.now, held_reason="meter is gone")
    assert grace.alert_at_half_time(now=at(1, 6) - timedelta(seconds=1)) == 0
    assert grace.alert_at_half_time(now=at(1, 6)) == 1
    assert grace.alert_at_half_time(now=at(1, 7)) == 0
    assert alerts() == before + 1
    assert grace.in_grace(now=at(1, 7))[0].held_reason == "meter is gone"
    assert grace.in_grace(now=at(1, 12)) == [], "final: nothing can be pushed any more"


def test_an_ended_period_is_pushed_inside_itself_until_its_invoice_is_final(world):
    world.mapping()
    ended(world)
    world.use(7, ts=at(31, 20, month=10))
    world.settle()
    (call,) = world.calls()
    assert at(31, 0, month=10).timestamp() <= call["timestamp"] < at(1, 0).timestamp()


def freeze(world):
    """The invoice of October is final: its grace is over."""
    world.move(hours=13)
    set_period_state(
        tenant_id=world.acme.pk, customer_ref="c1", period_start=at(1, 0, month=10),
        state="frozen", now=world.now,
    )  # fmt: skip


def test_a_push_that_stripe_was_too_busy_for_is_not_sent_once_the_invoice_is_final(world):
    world.mapping()
    ended(world)
    world.use(7, ts=at(31, 20, month=10))
    world.sandbox.fault("rate_limit", path="/v1/billing/meter_events", count=None)
    world.push()
    assert (Push.objects.get().state, Push.objects.get().attempts > 0) == ("retry", True)
    world.sandbox.clear_faults()
    freeze(world)
    world.settle()
    assert world.at_stripe() == 0, "it would be on no invoice"
    assert Push.objects.get().state == "rejected"
    assert selectors.slices_that_disagree() == []


def test_a_push_that_may_have_arrived_is_settled_though_the_invoice_is_final(world):
    world.mapping()
    ended(world)
    world.use(7, ts=at(31, 20, month=10))
    world.sandbox.fault("drop_after", path="/v1/billing/meter_events", count=1)
    world.push()
    freeze(world)
    world.settle()
    assert (world.at_stripe(), Push.objects.get().state) == (7, "acknowledged")
