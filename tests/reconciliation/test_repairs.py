"""From an injected cause to a verified repair, and back again."""

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from billing.models import CustomerLink, Push
from billing.stripe.client import client_for
from counters.models import Counter
from reconciliation.models import Finding, RepairPlan
from reconciliation.services import findings, repairs, verifying
from stripemeter.lib import clock
from stripemeter.lib.errors import Conflict, Forbidden
from stripemeter.tenancy.models import AuditEntry
from stripemeter.tenancy.recognition import forget_cached_keys
from tests.builders.tenancy import make_caller
from tests.reconciliation.injecting import foreign
from tests.reconciliation.running import lines, open_findings, reconcile, settled
from tests.reconciliation.test_causes import EVENTS


@pytest.fixture
def lost(world):
    """Nine units told, four of them lost at Stripe, and the finding."""
    world.mapping(local_price={"model": "flat", "currency": "USD", "unitPrice": "0.05"})
    world.use(5)
    world.push()
    world.sandbox.fault("lose", path=EVENTS)
    world.use(4)
    world.push()
    settled(world)
    reconcile(world)
    return world


def propose(world) -> RepairPlan:
    ids = list(Finding.objects.filter(closed_at__isnull=True).values_list("pk", flat=True))
    return repairs.propose(
        tenant_id=world.acme.pk, finding_ids=ids, note="", actor="ada", now=world.now
    )


def approve(world, plan) -> None:
    repairs.decide(
        tenant_id=world.acme.pk, plan_id=plan.pk, approve=True, actor="grace", now=world.now
    )


def apply(world, plan) -> RepairPlan:
    return repairs.apply(tenant_id=world.acme.pk, plan_id=plan.pk, actor="ada", now=world.now)


def carried_out(world) -> RepairPlan:
    plan = propose(world)
    approve(world, plan)
    apply(world, plan)
    world.push()
    settled(world)
    return verifying.verify(tenant_id=world.acme.pk, plan_id=plan.pk, clock=world.clock)


def test_a_dry_run_shows_units_and_money_and_writes_nothing(lost):
    [finding] = Finding.objects.all()
    found = repairs.draft(tenant_id=lost.acme.pk, finding_ids=[finding.pk])
    [step] = found.steps
    assert (step.kind, step.effect_units, step.finding.amount_minor) == (
        "reopen", Decimal(4), Decimal(20),
    )  # fmt: skip
    assert not RepairPlan.objects.exists()


def test_lost_usage_is_sent_again_and_verified(lost):
    plan = carried_out(lost)
    assert plan.state == "verified"
    assert lost.at_stripe() == Decimal(9)
    assert Finding.objects.get().state == "repaired"
    assert [line.status for line in lines(reconcile(lost))] == ["parity"]


@pytest.mark.parametrize("seen", [False, True], ids=["unseen", "after a run that saw it"])
def test_usage_that_came_in_after_all_is_not_sent_again(world, seen):
    """Stripe adds up hours late: the loss was none. Approved in between, the plan leaves it."""
    world.mapping()
    world.use(5)
    world.push()
    world.sandbox.configure(summary_lag_seconds=7_200)
    world.use(4)
    world.push()
    settled(world)
    reconcile(world)
    assert open_findings(world) == [("lost_at_stripe", "c1", 4)]
    plan = propose(world)
    approve(world, plan)
    world.move(hours=3)
    if seen:
        reconcile(world)
    apply(world, plan)
    world.settle()
    assert world.at_stripe() == 9
    [step] = plan.steps.all()
    assert (step.state, list(step.outcome)) == ("failed", ["notDone"])
    verifying.verify_applied(clock=world.clock)
    assert RepairPlan.objects.get().state == "failed"
    repairs.undo(tenant_id=world.acme.pk, plan_id=plan.pk, actor="grace", now=world.now)
    world.settle()
    assert (world.at_stripe(), Push.objects.count()) == (9, 2), "nothing was done to undo"


def test_a_plan_waits_while_stripe_cannot_be_read_and_goes_on_by_itself(lost):
    plan = propose(lost)
    approve(lost, plan)
    lost.sandbox.fault("error_503", path="/v1/billing/meters*", count=None)
    assert apply(lost, plan).state == "applying"
    lost.push()
    assert lost.at_stripe() == 5
    lost.sandbox.clear_faults()
    verifying.verify_applied(clock=lost.clock)
    lost.settle()
    assert lost.at_stripe() == 9


def test_a_plan_that_cannot_be_dealt_with_stops_no_other(both_lost):
    """And a request carries out a few steps only: the tick does the rest."""
    findings_ = list(Finding.objects.filter(closed_at__isnull=True).order_by("customer_ref"))
    plans = []
    for finding in findings_:
        plan = repairs.propose(
            tenant_id=both_lost.acme.pk, finding_ids=[finding.pk], note="", actor="ada",
            now=both_lost.now,
        )  # fmt: skip
        approve(both_lost, plan)
        left = repairs.apply(
            tenant_id=both_lost.acme.pk, plan_id=plan.pk, actor="ada", now=both_lost.now,
            steps_max=0,
        )  # fmt: skip
        assert left.state == "applying"
        plans.append(plan)
    plans[0].steps.update(parameters={})
    verifying.verify_applied(clock=both_lost.clock)
    both_lost.settle()
    assert (both_lost.at_stripe(), both_lost.at_stripe("c2")) == (5, 9)


def test_a_plan_does_what_was_approved_though_more_was_lost_since(lost):
    plan = propose(lost)
    approve(lost, plan)
    lost.sandbox.fault("lose", path=EVENTS)
    lost.use(2)
    lost.push()
    settled(lost)
    reconcile(lost)
    assert open_findings(lost) == [("lost_at_stripe", "c1", 6)]
    apply(lost, plan)
    lost.settle()
    assert lost.at_stripe() == 9, "two of eleven are for another plan"


def test_what_stripe_counted_twice_is_taken_back(world):
    world.mapping()
    world.sandbox.fault("duplicate", path=EVENTS)
    world.use(5)
    world.push()
    settled(world)
    reconcile(world)
    assert world.at_stripe() == 10
    assert carried_out(world).state == "verified"
    assert world.at_stripe() == 5


def test_usage_of_a_former_customer_moves_to_the_linked_one(world):
    world.mapping()
    world.use(5)
    world.push()
    other = str(client_for("live").v1.customers.create({"name": "right"}).id)
    CustomerLink.objects.filter(tenant=world.acme, customer_ref="c1").update(
        stripe_customer_id=other
    )
    settled(world)
    reconcile(world)
    plan = propose(world)
    approve(world, plan)
    apply(world, plan)
    world.settle()
    settled(world)
    done = verifying.verify(tenant_id=world.acme.pk, plan_id=plan.pk, clock=world.clock)
    assert done.state == "verified"
    assert world.at_stripe() == 0
    world.customers[world.acme.pk, "c1", "live"] = other
    assert world.at_stripe() == 5


def test_a_counter_is_rebuilt_from_the_ledger(world):
    world.mapping()
    world.use(5)
    world.push()
    settled(world)
    Counter.objects.filter(tenant_id=world.acme.pk).update(sum=6)
    reconcile(world)
    finding = Finding.objects.get(cause="counter_mismatch")
    plan = repairs.propose(
        tenant_id=world.acme.pk, finding_ids=[finding.pk], note="", actor="ada", now=world.now
    )
    approve(world, plan)
    apply(world, plan)
    world.push()
    settled(world)
    verifying.verify(tenant_id=world.acme.pk, plan_id=plan.pk, clock=world.clock)
    assert Counter.objects.get(tenant_id=world.acme.pk).sum == 5
    assert Finding.objects.get(pk=finding.pk).state == "repaired"


def test_a_surplus_without_a_named_cause_is_refused_until_a_person_explains_it(world):
    world.mapping()
    world.use(5)
    world.push()
    foreign(world, 3)
    settled(world)
    reconcile(world)
    with pytest.raises(Conflict, match="Stripe is higher and no cause is known"):
        propose(world)
    findings.decide(
        tenant_id=world.acme.pk,
        finding_id=Finding.objects.get().pk,
        state="explained",
        note="the old billing job, switched off today",
        owner="ada",
        actor="ada",
        now=world.now,
    )
    assert carried_out(world).state == "verified"
    assert world.at_stripe() == 5


def test_the_proposer_does_not_approve(lost):
    plan = propose(lost)
    with pytest.raises(Forbidden):
        repairs.decide(
            tenant_id=lost.acme.pk, plan_id=plan.pk, approve=True, actor="ada", now=lost.now
        )
    with pytest.raises(Conflict):
        apply(lost, plan)
    with pytest.raises(Conflict, match="Another plan"):
        propose(lost)


def test_applying_twice_is_applying_once(lost):
    plan = propose(lost)
    approve(lost, plan)
    apply(lost, plan)
    apply(lost, plan)
    lost.push()
    apply(lost, plan)
    lost.push()
    assert lost.at_stripe() == 9
    assert Push.objects.count() == 3


_VICTIM = """
import os, django
django.setup()
from datetime import datetime
from uuid import UUID
from reconciliation.services import repairs
getattr(repairs, os.environ["VICTIM_ACT"])(
    tenant_id=int(os.environ["VICTIM_TENANT"]), plan_id=UUID(os.environ["VICTIM_PLAN"]),
    actor="grace", now=datetime.fromisoformat(os.environ["VICTIM_NOW"]))
"""


def killed(world, plan, act: str, name: str) -> None:
    """A process of its own that applies or undoes the plan and is killed on the way."""
    died = subprocess.run(
        [sys.executable, "-c", _VICTIM],
        cwd=Path(__file__).resolve().parents[2],
        env={
            **os.environ,
            "STRIPEMETER_FAULT_POINTS": "=kill@".join(f"{name}@1".split("@")[:2]),
            "DJANGO_SETTINGS_MODULE": "stripemeter.settings",
            "VICTIM_ACT": act,
            "VICTIM_TENANT": str(world.acme.pk),
            "VICTIM_PLAN": str(plan.pk),
            "VICTIM_NOW": world.now.isoformat(),
        },
        capture_output=True,
        check=False,
    )
    assert died.returncode == -9, died.stderr.decode()[-2_000:]


@pytest.fixture
def both_lost(lost):
    """Another customer lost four of nine, too: a plan of two steps."""
    lost.customer("c2")
    lost.use(5, customer="c2")
    lost.push()
    lost.sandbox.fault("lose", path=EVENTS)
    lost.use(4, customer="c2")
    lost.push()
    settled(lost)
    reconcile(lost)
    assert lost.at_stripe() == lost.at_stripe("c2") == 5
    return lost


@pytest.mark.parametrize(
    "name",
    [
        "repair.started",
        "repair.before_step@1",
        "repair.step_written@1",
        "repair.after_step@1",
        "repair.step_written@2",
        "repair.after_step@2",
    ],
)
def test_a_kill_at_any_step_of_applying_converges(both_lost, name):
    world = both_lost
    plan = propose(world)
    approve(world, plan)
    killed(world, plan, "apply", name)
    world.push()
    # The next tick finds the plan that was broken off.
    verifying.verify_applied(clock=world.clock)
    world.push()
    settled(world)
    verifying.verify_applied(clock=world.clock)
    assert RepairPlan.objects.get().state == "verified"
    assert world.at_stripe() == world.at_stripe("c2") == 9


@pytest.mark.parametrize(
    "name",
    [
        "repair.undo_started",
        "repair.cancelled@1",
        "repair.undo_written@1",
        "repair.undo_step_done@1",
        "repair.cancelled@2",
        "repair.undo_step_done@2",
    ],
)
@pytest.mark.parametrize("hours", [1, pytest.param(30, marks=pytest.mark.large)])
def test_a_kill_at_any_step_of_undoing_converges(both_lost, name, hours):
    world = both_lost
    plan = carried_out(world)
    assert plan.state == "verified"
    world.move(hours=hours)
    killed(world, plan, "undo", name)
    world.push()
    verifying.verify_applied(clock=world.clock)
    assert RepairPlan.objects.get().state == "undone"
    world.settle()
    settled(world)
    assert world.at_stripe() == world.at_stripe("c2") == 5
    reconcile(world)
    found = Finding.objects.filter(closed_at__isnull=True, cause="lost_at_stripe")
    assert [each.units for each in found] == [4, 4]


def test_an_undo_killed_after_it_cancelled_is_not_countered_too_a_day_later(lost):
    plan = carried_out(lost)
    killed(lost, plan, "undo", "repair.cancelled@1")
    lost.move(hours=30)
    lost.push()
    verifying.verify_applied(clock=lost.clock)
    assert RepairPlan.objects.get().state == "undone"
    lost.settle()
    settled(lost)
    assert lost.at_stripe() == 5


def test_an_undo_killed_before_it_cancelled_is_countered_a_day_later(lost):
    plan = carried_out(lost)
    killed(lost, plan, "undo", "repair.undo_started")
    lost.move(hours=30)
    verifying.verify_applied(clock=lost.clock)
    lost.settle()
    settled(lost)
    assert lost.at_stripe() == 5


@pytest.mark.parametrize("hours", [1, 30])
def test_undo_brings_stripe_and_the_finding_back(lost, hours):
    plan = carried_out(lost)
    lost.move(hours=hours)
    for _ in range(2):
        repairs.undo(tenant_id=lost.acme.pk, plan_id=plan.pk, actor="grace", now=lost.now)
    lost.settle()
    settled(lost)
    assert lost.at_stripe() == 5
    reconcile(lost)
    assert Finding.objects.get(closed_at__isnull=True).units == 4


def test_undo_of_taking_back(world):
    world.mapping()
    world.sandbox.fault("duplicate", path=EVENTS)
    world.use(5)
    world.push()
    settled(world)
    reconcile(world)
    plan = carried_out(world)
    repairs.undo(tenant_id=world.acme.pk, plan_id=plan.pk, actor="grace", now=world.now)
    world.settle()
    assert world.at_stripe() == 10


def test_verification_waits_for_what_still_settles(lost):
    plan = propose(lost)
    approve(lost, plan)
    apply(lost, plan)
    verifying.verify_applied(clock=lost.clock)
    assert RepairPlan.objects.get().state == "applied"


def test_every_act_leaves_one_audit_row(lost):
    carried_out(lost)
    verbs = AuditEntry.objects.filter(object_type="repair_plan").order_by("sequence")
    assert [each.action.split(".")[1] for each in verbs] == [
        "proposed", "approved", "started", "applied",
    ]  # fmt: skip


def test_the_routes_lead_from_a_finding_to_its_repair(lost, client, monkeypatch):
    forget_cached_keys()
    monkeypatch.setattr(clock, "now", lost.clock)
    monkeypatch.setattr("reconciliation.repairs_api.wake", lambda: None)
    ada, grace = make_caller(lost.acme), make_caller(lost.acme)
    stranger = make_caller(lost.globex)
    base = "/v1/reconciliation/repair-plans"

    def post(caller, path, body=None):
        return client.post(
            path, body or {}, content_type="application/json", headers=caller.headers
        )

    dry = post(ada, base, {"cause": "lost_at_stripe", "dryRun": True}).json()
    assert (dry["effectUnits"], dry["steps"][0]["effectMinor"]) == (4, 20)
    made = post(ada, base, {"cause": "lost_at_stripe", "note": "lost on friday"})
    assert made.status_code == 201
    plan = f"{base}/{made.json()['id']}"
    assert post(ada, f"{plan}/approve").status_code == 403
    assert post(stranger, f"{plan}/approve").status_code == 404
    assert post(grace, f"{plan}/approve").json()["state"] == "approved"
    assert post(ada, f"{plan}/apply").json()["state"] == "applied"
    lost.push()
    settled(lost)
    assert post(ada, f"{plan}/verify").json()["state"] == "verified"
    listed = client.get(base, headers=ada.headers).json()["plans"]
    assert [each["state"] for each in listed] == ["verified"]
    assert client.get(plan, headers=stranger.headers).status_code == 404
