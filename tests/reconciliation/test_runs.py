"""Runs over the real driver: parity is parity, and each difference is named."""

from decimal import Decimal
from threading import Barrier, Thread

import pytest
from django.core.management import call_command
from django.db import connection

from reconciliation.models import Finding, ReportLine, Run
from reconciliation.services import runs
from stripemeter.lib import clock
from tests.builders.billing import at
from tests.reconciliation.running import lines, open_findings, reconcile, settled


def test_what_was_pushed_is_in_parity(world):
    world.mapping()
    world.use(5, ts=at(18))
    world.use("2.25")
    world.push()
    settled(world)
    run = reconcile(world)
    assert run.status == "done"
    [line] = lines(run)
    assert line.status == "parity"
    assert (line.ledger, line.counter, line.wanted, line.acknowledged, line.stripe) == (
        Decimal("7.25"),
    ) * 5
    assert not Finding.objects.exists()


def test_a_run_reads_stripe_once_per_customer_and_meter(world):
    world.mapping()
    for customer in ("c2", "c3"):
        world.customer(customer)
        world.use(3, customer=customer)
    world.use(5, ts=at(20, month=10))
    world.use(5)
    world.push()
    settled(world)
    before = world.sandbox.stats()
    run = reconcile(world)
    assert run.cursors == 4
    after = world.sandbox.stats()
    reads = {name: after[name] - before.get(name, 0) for name in after if "summaries" in name}
    assert sum(reads.values()) in {0, 3}, reads
    # Two lists of meters, one GET per customer and one for the invoices of October.
    assert run.stripe_reads == 2 + 3 + 1


def test_usage_before_its_push_is_no_drift(world):
    world.mapping()
    world.use(5)
    run = reconcile(world)
    assert [line.status for line in lines(run)] == ["settling"]
    assert open_findings(world) == []
    settled(world)
    reconcile(world)
    assert open_findings(world) == [("unpushed", "c1", Decimal(5))]


def test_a_push_that_stripe_has_not_added_up_yet_is_settling(world):
    world.mapping()
    world.sandbox.configure(summary_lag_seconds=600)
    world.use(5)
    world.push()
    run = reconcile(world)
    [line] = lines(run)
    assert line.status == "settling"
    assert line.causes == [{"cause": "settling", "units": "5"}]
    settled(world)
    assert [line.status for line in lines(reconcile(world))] == ["parity"]
    assert Finding.objects.get().closed_at is not None


def test_a_second_request_follows_the_run_that_is_under_way(world):
    first, new = runs.request_run(tenant_id=world.acme.pk, actor="a", now=world.now)
    second, again = runs.request_run(tenant_id=world.acme.pk, actor="b", now=world.now)
    other, _ = runs.request_run(tenant_id=world.globex.pk, actor="c", now=world.now)
    assert (new, again) == (True, False)
    assert first.pk == second.pk != other.pk


def test_two_workers_carry_a_run_out_once(world):
    world.mapping()
    world.use(5)
    run, _ = runs.request_run(tenant_id=world.acme.pk, actor="test", now=world.now)
    barrier, claimed = Barrier(2), []

    def work() -> None:
        barrier.wait()
        mine = runs.claim(now=world.now)
        if mine is not None:
            claimed.append(runs.execute(mine, clock=world.clock))
        connection.close()

    workers = [Thread(target=work) for _ in range(2)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    assert [each.pk for each in claimed] == [run.pk]
    assert ReportLine.objects.count() == 1


@pytest.mark.parametrize("name", ["reconciliation.page_written"])
def test_a_run_whose_worker_died_is_taken_over_and_reports_once(world, monkeypatch, name):
    world.mapping()
    world.use(5)
    run, _ = runs.request_run(tenant_id=world.acme.pk, actor="test", now=world.now)
    monkeypatch.setenv("STRIPEMETER_FAULT_POINTS", f"{name}=raise@1")
    first = runs.claim(now=world.now)
    with pytest.raises(RuntimeError):
        runs.execute(first, clock=world.clock)
    world.move(minutes=10)
    done = runs.execute(runs.claim(now=world.now), clock=world.clock)
    assert (done.status, done.attempt, done.cursors) == ("done", 2, 1)
    assert ReportLine.objects.count() == 1
    # The first worker wakes up: it may not write any more.
    zombie = Run.objects.get(pk=run.pk)
    zombie.attempt = 1
    assert runs.execute(zombie, clock=world.clock).cursors == 1


def test_a_tenant_sees_its_own_cursors_only(world):
    world.mapping()
    world.mapping(tenant=world.globex)
    world.use(5)
    world.use(7, tenant=world.globex)
    world.push()
    settled(world)
    run = reconcile(world, tenant=world.globex)
    assert [line.counter for line in lines(run)] == [Decimal(7)]


def test_shadow_and_live_are_compared_apart(world):
    world.meter(mode="test")
    world.customer(mode="test")
    world.mapping(shadow=True, shadow_stripe_account="default", shadow_price_id="price_2")
    world.use(5)
    world.push()
    settled(world)
    assert {(each.mode, each.status) for each in lines(reconcile(world))} == {
        ("live", "parity"),
        ("test", "parity"),
    }


def test_stripe_out_of_reach_is_unread_and_no_drift(world):
    world.mapping()
    world.use(5)
    world.push()
    settled(world)
    world.sandbox.fault("error_503", path="/v1/billing/meters*", count=None)
    [line] = lines(reconcile(world))
    assert (line.status, line.stripe) == ("unread", None)
    assert open_findings(world) == []


def test_the_numbers_of_a_line_can_be_recomputed_from_its_ids(world):
    from billing.models import Push
    from ledger.models import Event

    world.mapping()
    world.use(5, ts=at(18))
    world.use(4)
    world.push()
    settled(world)
    [line] = lines(reconcile(world))
    basis = line.basis
    assert basis["events"] == Event.objects.filter(tenant_id=world.acme.pk).count()
    told = Push.objects.filter(
        tenant_id=world.acme.pk, mapping_id=line.mapping_id, sequence__lte=basis["pushesThrough"]
    ).exclude(sequence__in=basis["pushesExcept"])
    assert sum(each.delta for each in told) == line.acknowledged
    assert sum(Decimal(value) for value in basis["stripe"].values()) == line.stripe


def test_the_command_waits_for_the_run_that_a_worker_carries_out(world, monkeypatch, capsys):
    """The demo ends with a run, and the beat may have begun one in that moment."""
    monkeypatch.setattr(clock, "now", world.clock)
    world.mapping()
    world.use(5)
    world.push()
    settled(world)
    elsewhere, _ = runs.request_run(tenant_id=world.acme.pk, actor="beat", now=world.now)
    claimed = runs.claim(now=world.now, run_id=elsewhere.pk)
    # The worker ends while the command waits.
    monkeypatch.setattr(
        "reconciliation.management.commands.reconcile.sleep",
        lambda _: runs.execute(claimed, clock=world.clock),
    )
    call_command("reconcile", "--tenant", "acme")
    assert "acme: parity  1 cursors: 1 in parity" in capsys.readouterr().out
    assert Run.objects.filter(status="done").count() == 2
