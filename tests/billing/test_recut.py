"""When time is cut anew under pushed usage, Stripe's sums stay those of the ledger."""

from datetime import UTC, datetime
from decimal import Decimal

from billing.models import Push
from counters.services.calendars import set_calendar
from tests.builders.billing import at


def test_a_new_calendar_takes_back_and_says_again_without_ever_billing_more(world):
    world.mapping()
    world.use(5, ts=at(3))
    world.use(7, ts=at(19))
    world.settle()
    set_calendar(
        tenant_id=world.acme.pk,
        customer_ref="c1",
        anchor=datetime(2026, 10, 15, tzinfo=UTC),
        interval="month",
        actor="test",
        now=world.now,
    )
    world.settle()
    assert world.at_stripe() == Decimal(12)
    running = peak = Decimal(0)
    for line in world.calls():
        running += Decimal(line["value"])
        peak = max(peak, running)
    assert (running, peak) == (Decimal(12), Decimal(12))
    by_period: dict[str, Decimal] = {}
    for push in Push.objects.filter(state="acknowledged"):
        name = f"{push.period_start:%m-%d}"
        by_period[name] = by_period.get(name, Decimal(0)) + push.delta
    assert by_period == {"11-01": Decimal(0), "10-15": Decimal(5), "11-15": Decimal(7)}
