"""Signed corrections: asked for by one, approved by another, undone by a counter-entry.

An adjustment is never edited. Its effect stands in its counter from the moment it is approved:
``Counter.adjusted`` is the sum of the approved and the reverted ones (a reverted one is undone
by its counter-entry, which is approved itself). The fold lock is held throughout, so that no
fold, re-cut or freeze comes between a check and its effect.

Only metrics that add up (sum, count) can be adjusted: a maximum, minimum, last value, number of
distinct members or average is a property of events, and is corrected by sending one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

from django.db import connection, transaction

from counters import locks
from counters.models import Adjustment
from counters.selectors.periods import FROZEN_STATES, cut_of, period_state
from counters.totals import ADDITIVE
from ledger.models import Metric
from stripemeter.lib import metrics
from stripemeter.lib.errors import Conflict, Forbidden, NotFound, ProblemError, invalid
from stripemeter.lib.instants import rfc3339
from stripemeter.lib.periods import Period
from stripemeter.tenancy import audit
from stripemeter.tenancy.models import Tenant

Status, Reason = Adjustment.Status, Adjustment.Reason
#: Reasons callers may give; the others are made by the service itself.
GIVEN_REASONS = (
    Reason.BACKFILL,
    Reason.CORRECTION,
    Reason.PROMO,
    Reason.CREDIT,
    Reason.MANUAL,
)
APPROVALS_MAX = 1_000

_APPLY = """
INSERT INTO counters_counter AS c (tenant_id, metric_id, customer_ref, period_start, period_end,
    sum, event_count, unique_count, adjusted, revision)
VALUES (%s, %s, %s, %s, %s, 0, 0, 0, %s, 1)
ON CONFLICT (tenant_id, metric_id, customer_ref, period_start)
DO UPDATE SET adjusted = c.adjusted + excluded.adjusted, revision = c.revision + 1
"""


@dataclass(frozen=True, slots=True)
class Approver:
    """Who decides, and whether as an owner of the tenant (an API key never is one)."""

    actor: str
    is_owner: bool = False


@transaction.atomic
def create_adjustment(
    *,
    tenant_id: int,
    metric: str,
    customer_ref: str,
    period_start: date | datetime,
    delta: Decimal,
    reason: str,
    actor: str,
    now: datetime,
    note: str = "",
    request_id: str | None = None,
    day: date | None = None,
) -> Adjustment:
    """Ask for a correction of the customer's counter by ``delta`` (in the metric's unit).

    ``period_start`` is the start of a billing period or any instant in it; ``day`` the UTC day
    it belongs to (today, as far as that lies in the period). The same ``request_id`` again
    returns what was made. Raises `InvalidRequest` for an unknown metric or reason, `Conflict`
    for a frozen period, for a metric that does not add up, and for a reused ``request_id``.
    """
    locks.fold_lock(tenant_id)
    registered = _adjustable(tenant_id, metric)
    if reason not in GIVEN_REASONS:
        raise invalid("reason", f"must be one of {', '.join(GIVEN_REASONS)}")
    if delta == 0:
        raise invalid("delta", "must not be zero")
    period = _period_named(tenant_id, customer_ref, period_start)
    wanted = Adjustment(
        tenant_id=tenant_id,
        id=uuid4(),
        metric=registered,
        customer_ref=customer_ref,
        period_start=period.start,
        day=_day_in(period, day, now),
        delta=delta,
        reason=reason,
        note=note,
        actor=actor,
        request_id=request_id,
        created_at=now,
    )
    earlier = _earlier(wanted)
    if earlier is not None:
        return earlier
    _refuse_frozen(wanted, "create it in the period that is open now")
    wanted.save(force_insert=True)
    _record(wanted, "created", actor=actor, now=now, before=None)
    metrics.adjustments_created.labels(reason).inc()
    return wanted


def _adjustable(tenant_id: int, name: str) -> Metric:
    metric = Metric.objects.filter(tenant_id=tenant_id, name=name).first()
    if metric is None:
        raise invalid("metric", "no such metric", code="unknown_metric")
    _refuse_meaningless(metric)
    return metric


def _refuse_meaningless(metric: Metric) -> None:
    if metric.aggregation not in ADDITIVE:
        raise Conflict(
            f"{metric.name} is the {metric.aggregation} of its events, so a difference has no"
            " meaning for it; send an event with the right value instead.",
            code="adjustment_meaningless",
        )


def _period_named(tenant_id: int, customer_ref: str, start: date | datetime) -> Period:
    """The period that begins on the day ``start``, or else holds its first moment."""
    cut = cut_of(tenant_id=tenant_id, customer_ref=customer_ref)
    if isinstance(start, datetime):
        return cut.period_of(start)
    midnight = datetime.combine(start, time.min, UTC)
    later = cut.period_of(midnight + timedelta(days=1) - timedelta(microseconds=1))
    return later if later.start.date() == start else cut.period_of(midnight)


def _day_in(period: Period, day: date | None, now: datetime) -> date:
    first, last = period.start.date(), (period.end - timedelta(microseconds=1)).date()
    if day is None:
        return min(max(now.date(), first), last)
    if not first <= day <= last:
        raise invalid("day", f"must lie in the period, from {first} to {last}")
    return day


def _earlier(wanted: Adjustment) -> Adjustment | None:
    """What an earlier request of the same id made. Raises `Conflict` if it said otherwise."""
    if wanted.request_id is None:
        return None
    found = Adjustment.objects.filter(
        tenant_id=wanted.tenant_id, request_id=wanted.request_id
    ).first()
    if found is None:
        return None
    same = ("metric_id", "customer_ref", "period_start", "delta", "reason", "note")
    if any(getattr(found, name) != getattr(wanted, name) for name in same):
        raise Conflict(
            "requestId already belongs to an adjustment with other content",
            code="request_id_reused",
        )
    return found


def _locked(tenant_id: int, adjustment_id: UUID) -> Adjustment:
    locks.fold_lock(tenant_id)
    rows = Adjustment.objects.select_for_update(of=("self",)).select_related("metric", "tenant")
    found = rows.filter(tenant_id=tenant_id, id=adjustment_id).first()
    if found is None:
        raise NotFound()
    return found


def _is_frozen(adjustment: Adjustment) -> bool:
    return (
        period_state(
            tenant_id=adjustment.tenant_id,
            customer_ref=adjustment.customer_ref,
            period_start=adjustment.period_start,
        )
        in FROZEN_STATES
    )


def _refuse_frozen(adjustment: Adjustment, way_out: str) -> None:
    if _is_frozen(adjustment):
        raise Conflict(
            f"The period is frozen, its counters never change; {way_out}.", code="period_frozen"
        )


def _refuse_state(detail: str) -> ProblemError:
    code = detail.lower().replace(" ", "_")
    return ProblemError(detail, code=code, status=400, title=detail)


def _check_approver(adjustment: Adjustment, approver: Approver) -> None:
    tenant: Tenant = adjustment.tenant
    if approver.actor == adjustment.actor and not tenant.single_operator:
        raise Forbidden(
            "An adjustment is approved by someone else than who asked for it (a tenant with one"
            " operator can say so in its settings).",
            code="four_eyes",
        )
    cap = tenant.adjustment_cap
    if cap is not None and abs(Decimal(adjustment.delta)) > cap and not approver.is_owner:
        raise Forbidden(
            f"Adjustments larger than {cap.normalize():f} are approved by an owner.",
            code="owner_required",
        )


@transaction.atomic
def approve_adjustment(
    *, tenant_id: int, adjustment_id: UUID, approver: Approver, now: datetime
) -> bool:
    """Approve a pending adjustment; its counter moves at once. False if it was already.

    Raises `Forbidden` for the requester and, above the tenant's cap, for all but owners;
    `Conflict` in a frozen period (carry it forward, or reject it).
    """
    adjustment = _locked(tenant_id, adjustment_id)
    if adjustment.status == Status.APPROVED:
        return False
    if adjustment.status != Status.PENDING:
        raise _refuse_state(f"Already {adjustment.status}")
    _check_approver(adjustment, approver)
    _refuse_frozen(adjustment, "carry the adjustment forward, or reject it")
    _approve(adjustment, approver.actor, now)
    _record(adjustment, "approved", actor=approver.actor, now=now, before=Status.PENDING)
    return True


def _approve(adjustment: Adjustment, actor: str, now: datetime) -> None:
    adjustment.status, adjustment.approved_at = Status.APPROVED, now
    adjustment.approved_by = actor
    adjustment.save(update_fields=["status", "approved_at", "approved_by"])
    _apply(adjustment)
    metrics.adjustments_approved.labels(adjustment.reason).inc()


def _apply(adjustment: Adjustment) -> None:
    """Add the delta to the counter, which is made if no event has made it yet."""
    cut = cut_of(tenant_id=adjustment.tenant_id, customer_ref=adjustment.customer_ref)
    period = cut.period_of(adjustment.period_start)
    with connection.cursor() as cursor:
        cursor.execute(
            _APPLY,
            [
                adjustment.tenant_id,
                adjustment.metric_id,
                adjustment.customer_ref,
                period.start,
                period.end,
                adjustment.delta,
            ],
        )


@transaction.atomic
def carry_forward(
    *, tenant_id: int, adjustment_id: UUID, approver: Approver, now: datetime, note: str = ""
) -> Adjustment:
    """Let a pending adjustment of a frozen period count in the period that is open now.

    Answers the entry that counts; the held one is marked as carried. Raises like
    `approve_adjustment`, and `Conflict` for metrics that do not add up.
    """
    held = _locked(tenant_id, adjustment_id)
    if held.status == Status.CARRIED:
        return Adjustment.objects.get(parent=held, reason=held.reason)
    if held.status != Status.PENDING:
        raise _refuse_state(f"Already {held.status}")
    _check_approver(held, approver)
    _refuse_meaningless(held.metric)
    cut = cut_of(tenant_id=tenant_id, customer_ref=held.customer_ref)
    period = cut.period_of(now)
    held.status, held.approved_at, held.approved_by = Status.CARRIED, now, approver.actor
    held.save(update_fields=["status", "approved_at", "approved_by"])
    child = Adjustment(
        tenant_id=tenant_id,
        id=uuid4(),
        metric=held.metric,
        customer_ref=held.customer_ref,
        period_start=period.start,
        day=now.date(),
        delta=held.delta,
        reason=held.reason,
        note=note or f"carried forward from {rfc3339(held.period_start)}",
        actor=held.actor,
        parent=held,
        created_at=now,
    )
    _refuse_frozen(child, "wait until the next period is open")
    child.save(force_insert=True)
    _approve(child, approver.actor, now)
    _record(held, "carried", actor=approver.actor, now=now, before=Status.PENDING)
    return child


@transaction.atomic
def reject_adjustment(
    *, tenant_id: int, adjustment_id: UUID, actor: str, now: datetime, note: str = ""
) -> bool:
    """Refuse a pending adjustment for good (waived, or credited elsewhere: say so in ``note``).

    False if it was rejected already.
    """
    adjustment = _locked(tenant_id, adjustment_id)
    if adjustment.status == Status.REJECTED:
        return False
    if adjustment.status != Status.PENDING:
        raise _refuse_state(f"Already {adjustment.status}")
    adjustment.status, adjustment.rejected_at, adjustment.rejected_by = (
        Status.REJECTED,
        now,
        actor,
    )
    adjustment.save(update_fields=["status", "rejected_at", "rejected_by"])
    _record(adjustment, "rejected", actor=actor, now=now, before=Status.PENDING, note=note)
    return True


@transaction.atomic
def revert_adjustment(
    *, tenant_id: int, adjustment_id: UUID, actor: str, now: datetime, note: str = ""
) -> Adjustment:
    """Undo an approved adjustment, once, by a counter-entry; answers the counter-entry.

    Whoever may write may revert: it takes away what two people agreed on, and is audited.
    """
    adjustment = _locked(tenant_id, adjustment_id)
    if adjustment.status != Status.APPROVED or adjustment.delta == 0:
        raise _refuse_state("Only approved adjustments can be reverted")
    _refuse_frozen(adjustment, "correct it by an adjustment in the open period")
    counter_entry = Adjustment(
        tenant_id=tenant_id,
        id=uuid4(),
        metric=adjustment.metric,
        customer_ref=adjustment.customer_ref,
        period_start=adjustment.period_start,
        day=adjustment.day,
        delta=-Decimal(adjustment.delta),
        reason=Reason.REVERSAL,
        note=note,
        actor=actor,
        parent=adjustment,
        created_at=now,
    )
    adjustment.status, adjustment.reverted_at, adjustment.reverted_by = Status.REVERTED, now, actor
    adjustment.save(update_fields=["status", "reverted_at", "reverted_by"])
    counter_entry.save(force_insert=True)
    _approve(counter_entry, actor, now)
    _record(adjustment, "reverted", actor=actor, now=now, before=Status.APPROVED, note=note)
    metrics.adjustments_reverted.labels(adjustment.reason).inc()
    return counter_entry


@dataclass(frozen=True, slots=True)
class BulkOutcome:
    """How many of the named adjustments are approved now, and why the others are not."""

    applied: int
    failed: dict[str, str]


def approve_adjustments(
    *, tenant_id: int, adjustment_ids: Sequence[UUID], approver: Approver, now: datetime
) -> BulkOutcome:
    """Approve each of at most 1,000 adjustments by itself; one refusal stops no other."""
    if len(adjustment_ids) > APPROVALS_MAX:
        raise invalid("adjustmentIds", f"may name at most {APPROVALS_MAX}")
    applied, failed = 0, {}
    for adjustment_id in dict.fromkeys(adjustment_ids):
        try:
            approve_adjustment(
                tenant_id=tenant_id, adjustment_id=adjustment_id, approver=approver, now=now
            )
            applied += 1
        except ProblemError as problem:
            failed[str(adjustment_id)] = problem.code
    return BulkOutcome(applied, failed)


def _record(
    adjustment: Adjustment,
    verb: str,
    *,
    actor: str,
    now: datetime,
    before: str | None,
    note: str = "",
) -> None:
    audit.record(
        tenant_id=adjustment.tenant_id,
        actor=actor,
        action=f"adjustment.{verb}",
        object_type="adjustment",
        object_id=adjustment.id,
        now=now,
        before=None if before is None else {"status": str(before)},
        after={
            "status": str(adjustment.status),
            "metric": adjustment.metric.name,
            "customerRef": adjustment.customer_ref,
            "periodStart": rfc3339(adjustment.period_start),
            "delta": adjustment.delta,
            "reason": str(adjustment.reason),
            "note": note or adjustment.note,
        },
    )
