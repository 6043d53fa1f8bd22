"""Where the read budget goes when it does not cover everything."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from reconciliation.models import ReadBudget
from reconciliation.scheduling import Risk, allowance_of, choose
from tests.reconciliation.running import reconcile, settled

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def risk(name: str, **fields) -> Risk:
    values = {
        "mapping_id": UUID(int=1),
        "customer_ref": name,
        "mode": "live",
        "period_end": datetime(2026, 12, 1, tzinfo=UTC),
        "pushed_at": NOW - 3 * HOUR,
        "checked_at": NOW - HOUR,
        "has_finding": False,
        "units": Decimal(1),
    }
    return Risk(**{**values, **fields})


def test_the_riskiest_are_read_first():
    risks = [
        risk("quiet"),
        risk("pushed", pushed_at=NOW),
        risk("finding", has_finding=True),
        risk("closing", period_end=NOW + HOUR),
        risk("new", checked_at=None),
    ]
    plan = choose(risks, allowance=4, now=NOW)
    assert [each.customer_ref for each in plan.chosen] == ["finding", "closing", "new", "pushed"]
    assert plan.left_out == 1
    assert plan.lines(NOW)[0] == "budget: 4 reads; reading 4, leaving out 1"


def test_of_equal_risks_the_larger_one_is_read():
    risks = [risk("small", pushed_at=NOW), risk("large", pushed_at=NOW, units=Decimal(-900))]
    assert choose(risks, allowance=1, now=NOW).chosen[0].customer_ref == "large"


def test_without_a_limit_everything_is_read(settings, db):
    settings.STRIPE_READS_PER_MONTH = 0
    assert allowance_of(NOW, requested=False) is None


def test_a_scheduled_run_takes_a_few_even_shares_and_a_person_may_take_the_rest(settings, db):
    settings.STRIPE_READS_PER_MONTH = 10_000
    settings.RECONCILIATION_INTERVAL_SECONDS = 3_600
    ReadBudget.objects.create(
        account="default", mode="live", month=NOW.date().replace(day=1), reads=8_000
    )
    assert allowance_of(NOW, requested=True) == 2_000
    share = allowance_of(NOW, requested=False)
    assert 0 < share < 100
    ReadBudget.objects.update(reads=12_000)
    assert allowance_of(NOW, requested=True) == 0


def test_a_rationed_run_reads_within_its_budget_and_says_what_it_left_out(world, settings):
    world.mapping()
    for name in ("c2", "c3", "c4"):
        world.customer(name)
        world.use(3, customer=name)
    world.push()
    settled(world)
    settings.STRIPE_READS_PER_MONTH = 2
    run = reconcile(world)
    assert (run.cursors, run.skipped) == (2, 1)
    # What is booked are the reads made: two lists of meters and two cursors.
    assert ReadBudget.objects.get().reads == 4
