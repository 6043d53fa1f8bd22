"""Reads back whether a plan did what it said."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

from reconciliation.facts import QUIET, Cause
from reconciliation.models import RepairPlan, RepairStep
from reconciliation.reading import StripeReader
from reconciliation.services import repairs
from reconciliation.services.repairs import NOT_DONE
from reconciliation.services.rereading import assess_again
from reconciliation.services.runs import policy
from stripemeter.lib.logs import get_logger

log = get_logger(__name__)

State = RepairPlan.State
#: Plans verified in one tick.
PLANS_PER_TICK = 20


def verify(*, tenant_id: int, plan_id: UUID, clock: Callable[[], datetime]) -> RepairPlan:
    """Look at every cursor of an applied plan; what still settles is left waiting."""
    plan = RepairPlan.objects.get(tenant_id=tenant_id, pk=plan_id)
    if plan.state not in {State.APPLIED, State.FAILED}:
        return plan
    verdicts: dict[int, str] = {}
    reader = StripeReader()
    try:
        for step in plan.steps.select_related("finding", "plan"):
            if NOT_DONE in step.outcome:
                continue
            verdicts[step.pk] = _verdict(step, reader, clock)
    finally:
        reader.close()
    return repairs.record_verdicts(plan_id=plan_id, verdicts=verdicts, now=clock())


def _verdict(step: RepairStep, reader: StripeReader, clock: Callable[[], datetime]) -> str:
    for assessment in assess_again(step.finding, reader=reader, clock=clock):
        causes = {found.cause for found in assessment.found}
        if any(found.alarms for found in assessment.found):
            return "failed" if _had_time(step, clock()) else "waiting"
        if assessment.problem or causes & (QUIET - {Cause.ROUNDING_CARRY}):
            return "waiting"
    return "verified"


def _had_time(step: RepairStep, now: datetime) -> bool:
    """Whether pushes and Stripe's sums must show the step's effect by now."""
    patience = policy()
    applied_at = step.plan.applied_at
    return applied_at is None or now - applied_at > patience.settling + patience.push_grace


def verify_applied(*, clock: Callable[[], datetime]) -> int:
    """Verify plans that were applied; how many are settled now. Goes on with broken-off ones.

    A plan that cannot be dealt with is logged and tried again; it stops no other.
    """
    undoing = RepairPlan.objects.exclude(undone_by="").exclude(state=State.UNDONE)
    for plan in undoing[:PLANS_PER_TICK]:
        with _alone(plan):
            repairs.undo(
                tenant_id=plan.tenant_id, plan_id=plan.pk, actor=plan.undone_by, now=clock()
            )
    for plan in RepairPlan.objects.filter(state=State.APPLYING)[:PLANS_PER_TICK]:
        with _alone(plan):
            repairs.apply(
                tenant_id=plan.tenant_id,
                plan_id=plan.pk,
                actor=plan.applied_by,
                now=clock(),
                steps_max=None,
            )
    settled = 0
    applied = RepairPlan.objects.filter(state=State.APPLIED).order_by("applied_at")
    for plan in applied[:PLANS_PER_TICK]:
        with _alone(plan):
            done = verify(tenant_id=plan.tenant_id, plan_id=plan.pk, clock=clock)
            settled += done.state != State.APPLIED
    return settled


@contextmanager
def _alone(plan: RepairPlan) -> Iterator[None]:
    try:
        yield
    except Exception:  # one poisonous plan must not stop its neighbours
        log.exception("repair.failed", plan=str(plan.pk))
