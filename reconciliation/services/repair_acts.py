"""What each kind of step does: books are put right, inside the caller's transaction.

Amounts and pushes are those that were approved, whatever a later run says of the finding.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from billing.models import Push
from billing.services import corrections, delivery
from billing.services.corrections import CursorKey, Lane
from billing.slicing import stamp
from counters.services.recompute import Scope as CounterScope
from counters.services.recompute import recompute
from reconciliation.facts import ACKNOWLEDGED
from reconciliation.models import Finding, RepairStep
from reconciliation.selectors import repairs as selectors
from stripemeter.lib import strictjson
from stripemeter.lib.periods import Period

Kind = RepairStep.Kind


def key_of(finding: Finding) -> CursorKey:
    """The cursor that a finding is about."""
    return CursorKey(
        finding.tenant_id,
        finding.mapping_id,
        finding.customer_ref,
        finding.period_start,
        finding.mode,
    )


def _recompute(step: RepairStep, now: datetime) -> dict[str, Any]:
    finding = step.finding
    recompute(
        CounterScope(
            tenant_id=finding.tenant_id,
            metric_ids=(finding.metric_id,),
            start=finding.period_start,
            end=finding.period_end,
            customers=(finding.customer_ref,),
        )
    )
    return {"recomputed": finding.customer_ref}


def _release(step: RepairStep, now: datetime) -> dict[str, Any]:
    finding = step.finding
    parked = Push.objects.filter(**key_of(finding).fields(), state=Push.State.PARKED)
    rejected = delivery.reject(
        pushes=list(parked.values_list("tenant_id", "id")),
        code="released",
        message=f"repair plan {step.plan_id}",
        now=now,
    )
    return {"released": corrections.release_cursor(key=key_of(finding)), "rejected": rejected}


def _reopen(step: RepairStep, now: datetime) -> dict[str, Any]:
    """Lost pushes leave the pushed total: the planner sends their value again."""
    finding = step.finding
    pushes = Push.objects.select_for_update().filter(
        tenant_id=finding.tenant_id, id__in=step.parameters["pushIds"], state=ACKNOWLEDGED
    )
    chosen = [(push.tenant_id, push.id) for push in pushes]
    evidence = {"plan": str(step.plan_id), "finding": str(finding.pk)}
    rejected = delivery.reject(
        pushes=chosen,
        code="repair",
        message=f"{finding.cause}, repair plan {step.plan_id}",
        now=now,
        evidence=strictjson.dumps(evidence).decode(),
    )
    corrections.release_cursor(key=key_of(finding))
    return {"reopened": rejected}


def _adopt(step: RepairStep, now: datetime) -> dict[str, Any]:
    """The surplus is booked as pushed: the planner sends it back as a negative increment."""
    finding = step.finding
    standing = selectors.standing_of(finding)
    days = [date.fromisoformat(each) for each in step.parameters["days"]]
    day = days[0] if days else finding.period_start.date()
    stamped = datetime.combine(day, time(12), tzinfo=UTC)
    stamped = min(max(stamped, finding.period_start), finding.period_end - timedelta(seconds=1))
    push = corrections.adopt(
        key=key_of(finding),
        lane=lane_of(standing, standing.customer or ""),
        identifier=f"adopt-{step.plan_id.hex}-{step.position}",
        delta=-Decimal(step.parameters["units"]),
        day=day,
        stamped_at=stamped,
        evidence={"plan": str(step.plan_id), "finding": str(finding.pk)},
        now=now,
    )
    corrections.release_cursor(key=key_of(finding))
    return {"adopted": push.id, "identifier": push.identifier}


def _move(step: RepairStep, now: datetime) -> dict[str, Any]:
    """Negative increments at the former customer; the planner gives the linked one its due."""
    finding = step.finding
    standing = selectors.standing_of(finding)
    sent = []
    misplaced: dict[tuple[str, Any], Decimal] = {}
    for push in Push.objects.filter(
        tenant_id=finding.tenant_id, id__in=step.parameters["pushIds"], state=ACKNOWLEDGED
    ).order_by("sequence"):
        place = (push.stripe_customer_id, push.slice_day)
        misplaced[place] = misplaced.get(place, Decimal(0)) + push.delta
    for number, ((customer, day), units) in enumerate(sorted(misplaced.items())):
        at = stamp(day, bounds=Period(finding.period_start, finding.period_end), now=now)
        if not units or at is None:
            continue
        push = corrections.send(
            key=key_of(finding),
            lane=lane_of(standing, customer),
            identifier=f"move-{step.plan_id.hex}-{step.position}-{number}",
            delta=-units,
            day=day,
            stamped_at=at.at,
            evidence={"plan": str(step.plan_id), "finding": str(finding.pk)},
            now=now,
        )
        sent.append(push.identifier)
    corrections.release_cursor(key=key_of(finding))
    return {"takenBack": sent}


def lane_of(standing: selectors.Standing, customer: str) -> Lane:
    """Where at Stripe the cursor's usage of ``customer`` stands."""
    return Lane(standing.account_id, standing.target, customer, standing.semantics)


ACTS: dict[str, Callable[[RepairStep, datetime], dict[str, Any]]] = {
    Kind.RECOMPUTE: _recompute,
    Kind.RELEASE: _release,
    Kind.REOPEN: _reopen,
    Kind.ADOPT: _adopt,
    Kind.MOVE: _move,
}
