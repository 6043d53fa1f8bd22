"""Repair plans: proposed, approved by a second person, applied, read back, undone.

Each step and its mark are one transaction, so applying again after a crash goes on where
it stopped. Nothing here sends: books are put right, and the planner of pushes sends the
difference they show.
"""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction

from billing.models import Push
from billing.services import corrections, delivery
from reconciliation.models import Finding, RepairPlan, RepairStep
from reconciliation.reading import StripeReader
from reconciliation.remedies import Case, remedy_for
from reconciliation.selectors import repairs as selectors
from reconciliation.services.cancelling import cancel_sent
from reconciliation.services.findings import new_id, plain_json
from reconciliation.services.repair_acts import ACTS, key_of, lane_of
from reconciliation.services.rereading import standing_of
from stripemeter.lib.errors import Conflict, Forbidden, NotFound, invalid
from stripemeter.lib.faults import point
from stripemeter.tenancy import audit
from stripemeter.tenancy.models import Tenant

FINDINGS_MAX = 500
#: Each costs some reads of Stripe: a tick carries out what a request leaves.
STEPS_AT_ONCE = 10
#: In the outcome of a step that was left alone: why.
NOT_DONE = "notDone"
State, StepState, Kind = RepairPlan.State, RepairStep.State, RepairStep.Kind


@dataclass(frozen=True, slots=True)
class Draft:
    """A step before it is stored."""

    finding: Finding
    kind: str
    parameters: dict[str, Any]
    effect_units: Decimal


@dataclass(slots=True)
class Proposal:
    """What a plan would do: the dry run."""

    steps: list[Draft] = field(default_factory=list)
    refusals: list[dict[str, Any]] = field(default_factory=list)


def draft(*, tenant_id: int, finding_ids: list[UUID]) -> Proposal:
    """The steps and refusals for some active findings; writes nothing.

    Raises `InvalidRequest` for none, too many, or ids that are no active findings.
    """
    if not finding_ids or len(finding_ids) > FINDINGS_MAX:
        raise invalid("findingIds", f"must name 1 to {FINDINGS_MAX} findings")
    rows = list(
        Finding.objects.filter(
            tenant_id=tenant_id, pk__in=finding_ids, closed_at__isnull=True
        ).order_by("pk")
    )
    if len(rows) != len(set(finding_ids)):
        raise invalid("findingIds", "must be active findings of this tenant", code="not_found")
    found = Proposal()
    for finding in rows:
        standing = selectors.standing_of(finding)
        remedy = remedy_for(_case(finding, standing))
        if remedy.refusal:
            found.refusals.append({"findingId": finding.pk, "reason": remedy.refusal})
        else:
            found.steps.append(_draft(finding, standing, remedy.kind))
    return found


def _case(finding: Finding, standing: selectors.Standing) -> Case:
    return Case(
        cause=finding.cause,
        units_positive=finding.units > 0,
        explained_by_person=finding.state == Finding.State.EXPLAINED and bool(finding.decided_by),
        has_pushes=bool(finding.push_ids),
        frozen=standing.frozen,
        semantics=standing.semantics,
        linked=standing.customer is not None,
        paired="seenAs" in finding.evidence,
    )


def _draft(finding: Finding, standing: selectors.Standing, kind: str) -> Draft:
    parameters: dict[str, Any] = {"units": finding.units, "pushIds": finding.push_ids}
    effect = finding.units
    if kind == Kind.RECOMPUTE:
        effect = Decimal(0)
    if kind == Kind.ADOPT:
        parameters["days"] = finding.days
    if kind == Kind.MOVE:
        parameters["customer"] = standing.customer
        effect = Decimal(0)
    return Draft(finding, kind, plain_json(parameters), effect)


@transaction.atomic
def propose(
    *, tenant_id: int, finding_ids: list[UUID], note: str, actor: str, now: datetime
) -> RepairPlan:
    """Store a plan for the findings. Raises `Conflict` if no step is possible or one is taken."""
    found = draft(tenant_id=tenant_id, finding_ids=finding_ids)
    if not found.steps:
        reasons = "; ".join(sorted({each["reason"] for each in found.refusals}))
        raise Conflict(f"Nothing of this is repaired by machine: {reasons}", code="refused")
    busy = RepairStep.objects.filter(
        finding__in=[each.finding for each in found.steps],
        plan__state__in=selectors.UNDER_WAY,
    ).exists()
    if busy:
        raise Conflict("Another plan deals with one of the findings.", code="plan_exists")
    plan = RepairPlan.objects.create(
        id=new_id(),
        tenant_id=tenant_id,
        note=note,
        created_by=actor,
        created_at=now,
        refusals=plain_json(found.refusals),
    )
    RepairStep.objects.bulk_create(
        RepairStep(
            plan=plan,
            position=position,
            finding=each.finding,
            kind=each.kind,
            parameters=each.parameters,
            effect_units=each.effect_units,
            effect_minor=each.finding.amount_minor if each.effect_units else None,
            currency=each.finding.currency,
        )
        for position, each in enumerate(found.steps, 1)
    )
    _note(plan, "proposed", actor, now)
    return plan


def _note(plan: RepairPlan, verb: str, actor: str, now: datetime) -> None:
    audit.record(
        tenant_id=plan.tenant_id,
        actor=actor,
        action=f"repair_plan.{verb}",
        object_type="repair_plan",
        object_id=plan.pk,
        now=now,
        after={"state": plan.state, "steps": plan.steps.count()},
    )


def _locked(tenant_id: int, plan_id: UUID) -> RepairPlan:
    plan = RepairPlan.objects.select_for_update().filter(tenant_id=tenant_id, pk=plan_id).first()
    if plan is None:
        raise NotFound("No such repair plan")
    return plan


@transaction.atomic
def decide(
    *, tenant_id: int, plan_id: UUID, approve: bool, actor: str, now: datetime
) -> RepairPlan:
    """Approve or reject. Raises `Forbidden` for the proposer, `Conflict`, `NotFound`."""
    plan = _locked(tenant_id, plan_id)
    if plan.state != State.PROPOSED:
        raise Conflict(f"The plan is {plan.state}; there is nothing to decide.")
    alone = Tenant.objects.values_list("single_operator", flat=True).get(pk=tenant_id)
    if approve and actor == plan.created_by and not alone:
        raise Forbidden(
            "A plan is approved by someone else than who proposed it.", code="four_eyes"
        )
    plan.state = State.APPROVED if approve else State.REJECTED
    plan.decided_by, plan.decided_at = actor, now
    plan.save(update_fields=["state", "decided_by", "decided_at"])
    _note(plan, "approved" if approve else "rejected", actor, now)
    return plan


def apply(
    *,
    tenant_id: int,
    plan_id: UUID,
    actor: str,
    now: datetime,
    steps_max: int | None = STEPS_AT_ONCE,
) -> RepairPlan:
    """Carry out what is not carried out yet; safe to repeat at any point. Commits per step.

    Stripe is read again before usage is moved: a difference that went away is left alone, and
    the plan stays `applying` while that cannot be told or after ``steps_max`` steps; the next
    tick goes on. Raises `Conflict` if the plan is not approved.
    """
    with transaction.atomic():
        plan = _locked(tenant_id, plan_id)
        if plan.state in {State.APPLIED, State.VERIFIED}:
            return plan
        if plan.state not in {State.APPROVED, State.APPLYING}:
            raise Conflict(f"The plan is {plan.state}; it must be approved first.")
        if plan.state == State.APPROVED:
            plan.state, plan.applied_by, plan.applied_at = State.APPLYING, actor, now
            plan.save(update_fields=["state", "applied_by", "applied_at"])
            _note(plan, "started", actor, now)
    point("repair.started")
    if not _carry_out(plan, now, steps_max):
        return plan
    with transaction.atomic():
        plan = _locked(tenant_id, plan_id)
        if plan.state == State.APPLYING:
            plan.state = State.APPLIED
            plan.save(update_fields=["state"])
            _note(plan, "applied", actor, now)
    return plan


def _carry_out(plan: RepairPlan, now: datetime, steps_max: int | None) -> bool:
    """Carry out pending steps in their order; whether none is left."""
    pending = list(
        plan.steps.filter(state=StepState.PENDING).select_related("finding").order_by("position")
    )
    done = True
    reader = StripeReader()
    try:
        for step in pending[:steps_max]:
            point("repair.before_step")
            found = standing_of(step, reader=reader, clock=lambda: now)
            if found.later:
                done = False
            else:
                _apply_step(step.pk, now, "" if found.holds else found.reason)
            point("repair.after_step")
    finally:
        reader.close()
    return done and (steps_max is None or len(pending) <= steps_max)


@transaction.atomic
def _apply_step(step_id: int, now: datetime, not_done: str) -> None:
    step = (
        RepairStep.objects.select_for_update(of=("self",))
        .select_related("finding", "plan")
        .get(pk=step_id)
    )
    if step.state != StepState.PENDING:
        return
    if not_done:
        step.outcome, step.state = {NOT_DONE: not_done}, StepState.FAILED
    else:
        step.outcome = plain_json(ACTS[step.kind](step, now))
        step.state = StepState.APPLIED
    step.save(update_fields=["outcome", "state"])
    point("repair.step_written")


@transaction.atomic
def record_verdicts(*, plan_id: UUID, verdicts: dict[int, str], now: datetime) -> RepairPlan:
    """Write what reading back showed: per step id ``verified``, ``failed`` or ``waiting``."""
    plan = RepairPlan.objects.select_for_update().get(pk=plan_id)
    if plan.state not in {State.APPLIED, State.FAILED} or plan.undone_by:
        return plan
    for step in plan.steps.select_related("finding"):
        verdict = verdicts.get(step.pk, "waiting")
        if verdict == "waiting":
            continue
        step.state = StepState.VERIFIED if verdict == "verified" else StepState.FAILED
        step.save(update_fields=["state"])
        if (verdict == "verified" and step.finding.closed_at is None) or (
            verdict == "verified" and step.finding.state == Finding.State.EXPLAINED
        ):
            Finding.objects.filter(pk=step.finding_id).update(
                state=Finding.State.REPAIRED, closed_at=now, note=f"repair plan {plan.pk}"
            )
    states = set(plan.steps.values_list("state", flat=True))
    if states == {StepState.VERIFIED}:
        plan.state, plan.verified_at = State.VERIFIED, now
    elif StepState.FAILED in states and StepState.APPLIED not in states:
        plan.state = State.FAILED
    plan.save(update_fields=["state", "verified_at"])
    return plan


# --- undo -------------------------------------------------------------------------------


def undo(*, tenant_id: int, plan_id: UUID, actor: str, now: datetime) -> RepairPlan:
    """Take a plan back: what it sent is cancelled within 24 hours, else countered.

    Stripe stands afterwards as before the plan, and the findings show again. Safe to
    repeat: ``undone_by`` is set first, and the next tick goes on with what was broken off.
    Raises `Conflict` for plans that were not applied or that moved usage.
    """
    with transaction.atomic():
        plan = _locked(tenant_id, plan_id)
        if plan.state == State.UNDONE:
            return plan
        if plan.state not in {State.APPLIED, State.VERIFIED, State.FAILED}:
            raise Conflict(f"The plan is {plan.state}; there is nothing to undo.")
        if plan.steps.filter(kind=Kind.MOVE).exists():
            raise Conflict("Moved usage is moved back by linking the former customer again.")
        plan.undone_by = plan.undone_by or actor
        plan.save(update_fields=["undone_by"])
    point("repair.undo_started")
    for step in plan.steps.select_related("finding").order_by("-position"):
        if step.state != StepState.UNDONE:
            _undo_step(step, now)
            point("repair.undo_step_done")
    with transaction.atomic():
        plan = _locked(tenant_id, plan_id)
        if plan.state != State.UNDONE:
            plan.state, plan.undone_at = State.UNDONE, now
            plan.save(update_fields=["state", "undone_at"])
            _note(plan, "undone", plan.undone_by, now)
    return plan


def _undo_step(step: RepairStep, now: datetime) -> None:
    acted = step.kind in {Kind.REOPEN, Kind.ADOPT} and NOT_DONE not in step.outcome
    cancelled = cancel_sent(step, key_of(step.finding), now) if acted else None
    point("repair.cancelled")
    with transaction.atomic():
        # Whoever else undoes the plan right now waits here, and finds the step undone.
        RepairPlan.objects.select_for_update().get(pk=step.plan_id)
        step.refresh_from_db(fields=["state"])
        if step.state == StepState.UNDONE:
            return
        if cancelled is not None:
            delivery.reject(
                pushes=[(cancelled.tenant_id, cancelled.id)],
                code="undone",
                message=f"cancelled, repair plan {step.plan_id}",
                now=now,
            )
        if acted and step.kind == Kind.REOPEN:
            _undo_reopen(step, now)
        elif acted and step.kind == Kind.ADOPT:
            adopted = Push.objects.get(
                tenant_id=step.finding.tenant_id,
                identifier=f"adopt-{step.plan_id.hex}-{step.position}",
            )
            delivery.reject(
                pushes=[(adopted.tenant_id, adopted.id)],
                code="undone",
                message=f"repair plan {step.plan_id} was undone",
                now=now,
            )
        step.state = StepState.UNDONE
        step.save(update_fields=["state"])
        point("repair.undo_written")


def _undo_reopen(step: RepairStep, now: datetime) -> None:
    """The lost pushes are booked as standing again, so what was sent for them is too much."""
    finding = step.finding
    standing = selectors.standing_of(finding)
    for number, push in enumerate(
        Push.objects.filter(
            tenant_id=finding.tenant_id, id__in=step.parameters["pushIds"]
        ).order_by("sequence")
    ):
        corrections.adopt(
            key=key_of(finding),
            lane=lane_of(standing, push.stripe_customer_id),
            identifier=f"undo-{step.plan_id.hex}-{step.position}-{number}",
            delta=push.delta,
            day=push.slice_day,
            stamped_at=push.stamped_at,
            evidence={"plan": str(step.plan_id), "undone": push.identifier},
            now=now,
        )
