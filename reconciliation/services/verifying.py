"""Reads back whether a plan did what it said."""

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from reconciliation.facts import QUIET, Cause
from reconciliation.gathering import Gatherer
from reconciliation.models import RepairPlan, RepairStep
from reconciliation.reading import StripeReader
from reconciliation.selectors import targets
from reconciliation.selectors.snapshot import snapshot
from reconciliation.selectors.targets import Scope
from reconciliation.services import repairs
from reconciliation.services.runs import policy

#: Plans verified in one tick.
PLANS_PER_TICK = 20


def verify(*, tenant_id: int, plan_id: UUID, clock: Callable[[], datetime]) -> RepairPlan:
    """Look at every cursor of an applied plan; what still settles is left waiting."""
    plan = RepairPlan.objects.get(tenant_id=tenant_id, pk=plan_id)
    if plan.state not in {RepairPlan.State.APPLIED, RepairPlan.State.FAILED}:
        return plan
    verdicts: dict[int, str] = {}
    reader = StripeReader()
    try:
        for step in plan.steps.select_related("finding", "plan"):
            verdicts[step.pk] = _verdict(step, reader, clock)
    finally:
        reader.close()
    return repairs.record_verdicts(plan_id=plan_id, verdicts=verdicts, now=clock())


def _verdict(step: RepairStep, reader: StripeReader, clock: Callable[[], datetime]) -> str:
    finding = step.finding
    scope = Scope(
        tenant_id=finding.tenant_id,
        now=clock(),
        metric_id=finding.metric_id,
        customer_ref=finding.customer_ref,
        period_from=finding.period_start,
        period_to=finding.period_start + timedelta(microseconds=1),
    )
    gatherer = Gatherer(scope=scope, reader=reader, clock=clock, policy=policy())
    with snapshot():
        page, _ = targets.page(scope, after=None)
        page = [
            each
            for each in page
            if each.mapping_id == finding.mapping_id and each.mode == finding.mode
        ]
        mine = targets.ours(page)
    for assessment in gatherer.assess(page, mine):
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
    """Verify plans that were applied; how many are settled now. Goes on with broken-off ones."""
    for plan in RepairPlan.objects.exclude(undone_by="").exclude(state=RepairPlan.State.UNDONE)[
        :PLANS_PER_TICK
    ]:
        repairs.undo(tenant_id=plan.tenant_id, plan_id=plan.pk, actor=plan.undone_by, now=clock())
    for plan in RepairPlan.objects.filter(state=RepairPlan.State.APPLYING)[:PLANS_PER_TICK]:
        repairs.apply(tenant_id=plan.tenant_id, plan_id=plan.pk, actor=plan.applied_by, now=clock())
    settled = 0
    for plan in RepairPlan.objects.filter(state=RepairPlan.State.APPLIED).order_by("applied_at")[
        :PLANS_PER_TICK
    ]:
        done = verify(tenant_id=plan.tenant_id, plan_id=plan.pk, clock=clock)
        settled += done.state != RepairPlan.State.APPLIED
    return settled
