"""Looks at the cursor of one finding again, as a run would: before a repair, and after it.

Between finding and repair lie a proposal and a second person, hours as a rule. What Stripe
lacked may have come in meanwhile: to send it again would bill it twice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from reconciliation.facts import QUIET, Cause
from reconciliation.gathering import Assessment, Gatherer
from reconciliation.models import Finding, RepairStep
from reconciliation.reading import StripeReader
from reconciliation.selectors import targets
from reconciliation.selectors.snapshot import snapshot
from reconciliation.selectors.targets import Scope
from reconciliation.services.runs import policy

Kind = RepairStep.Kind
#: Steps that change what Stripe is told; the others let the planner say what our books show.
MOVES_USAGE = frozenset({Kind.REOPEN, Kind.ADOPT, Kind.MOVE})


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a step's difference is still there; ``later`` while that cannot be told."""

    holds: bool
    later: bool = False
    reason: str = ""


def assess_again(
    finding: Finding, *, reader: StripeReader, clock: Callable[[], datetime]
) -> list[Assessment]:
    """What a run would say now of the finding's cursor; empty if nothing bills it any more."""
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
    return gatherer.assess(page, mine)


def standing_of(
    step: RepairStep, *, reader: StripeReader, clock: Callable[[], datetime]
) -> Standing:
    """Whether Stripe still differs by at least what the step was approved for.

    Causes are not compared: a pair of customers is only named by a run over both.
    """
    if step.kind not in MOVES_USAGE:
        return Standing(holds=True)
    wanted = Decimal(step.parameters["units"])
    for assessment in assess_again(step.finding, reader=reader, clock=clock):
        for found in assessment.found:
            same_side = (found.units > 0) == (wanted > 0)
            if found.alarms and same_side and found.units.copy_abs() >= wanted.copy_abs():
                return Standing(holds=True)
        if assessment.problem:
            return Standing(holds=False, later=True, reason=assessment.problem)
        if {found.cause for found in assessment.found} & (QUIET - {Cause.ROUNDING_CARRY}):
            return Standing(holds=False, later=True, reason="something is under way or settling")
    return Standing(holds=False, reason="Stripe does not differ by this any more")
