"""Claims, leases and the life of long operations. What a step does, its owner knows.

A worker claims an operation for a lease and does it step by step, one transaction a step;
each begins with `step`, which locks the operation and checks that the claim still holds. So a
worker that was stopped past its lease cannot write beside the one that took over.
"""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from random import uniform
from typing import Any
from uuid import UUID, uuid4

import psycopg
from django.db import DatabaseError, transaction
from django.db.models import F, Q

from ledger.models import Operation
from stripemeter.lib.errors import Conflict, NotFound, Unavailable
from stripemeter.lib.faults import point
from stripemeter.lib.logs import get_logger
from stripemeter.tenancy import audit

log = get_logger(__name__)
Status, Kind = Operation.Status, Operation.Kind
TO_DO = (Status.PENDING, Status.PROCESSING)
LEASE = timedelta(seconds=120)
STEP_ATTEMPTS_MAX = 4


class ClaimLost(RuntimeError):
    """Another worker holds the operation now, or it was cancelled."""


@transaction.atomic
def create(
    *,
    tenant_id: int,
    kind: str,
    request: dict[str, Any],
    actor: str,
    now: datetime,
    steps_total: int = 0,
) -> Operation:
    """A new operation, waiting for a worker."""
    operation = Operation.objects.create(
        tenant_id=tenant_id,
        id=uuid4(),
        kind=kind,
        request=request,
        steps_total=steps_total,
        actor=actor,
        created_at=now,
        updated_at=now,
    )
    _record(operation, "created", actor, now)
    return operation


def _record(operation: Operation, verb: str, actor: str, now: datetime) -> None:
    audit.record(
        tenant_id=operation.tenant_id,
        actor=actor,
        action=f"{operation.kind}.{verb}",
        object_type="operation",
        object_id=operation.id,
        now=now,
        after={"request": operation.request, "stepsTotal": operation.steps_total},
    )


@transaction.atomic
def claim(*, kind: str, now: datetime, operation_id: UUID | None = None) -> Operation | None:
    """The oldest operation of ``kind`` that nobody works on, claimed; None if there is none."""
    rows = Operation.objects.select_for_update(skip_locked=True).filter(
        Q(lease_until=None) | Q(lease_until__lt=now), kind=kind, status__in=TO_DO
    )
    if operation_id is not None:
        rows = rows.filter(id=operation_id)
    operation = rows.order_by("created_at").first()
    if operation is None:
        return None
    operation.status, operation.lease_until = Status.PROCESSING, now + LEASE
    operation.fence += 1
    operation.started_at = operation.started_at or now
    operation.updated_at = now
    operation.save()
    return operation


def step(operation: Operation, *, now: datetime) -> Operation:
    """Lock the operation for one step and renew the lease; runs inside the step's transaction.

    Raises `ClaimLost` if the claim is no longer ours or the operation shall stop.
    """
    held = Operation.objects.select_for_update().get(id=operation.id)
    if held.fence != operation.fence or held.status != Status.PROCESSING:
        raise ClaimLost(f"operation {operation.id} is {held.status}, fence {held.fence}")
    if held.cancel_requested:
        raise ClaimLost("cancelled")
    held.lease_until, held.updated_at = now + LEASE, now
    held.save(update_fields=["lease_until", "updated_at"])
    return held


def run(
    operation: Operation, *, do_step: Callable[[Operation], bool], clock: Callable[[], datetime]
) -> None:
    """Do steps until ``do_step`` says there are no more; each in a transaction of its own.

    A step that fails for good ends the operation as failed, with the reason; what was done
    before stays done, and the operation can be resumed.
    """
    try:
        while _done_step(operation, do_step, clock):
            pass
        _end(operation, Status.COMPLETED, now=clock())
    except ClaimLost as error:
        _end(operation, Status.CANCELLED, now=clock())
        log.info("operation.left", operation_id=str(operation.id), reason=str(error))
    except Exception as error:
        log.exception("operation.failed", operation_id=str(operation.id))
        _end(operation, Status.FAILED, now=clock(), error=f"{type(error).__name__}: {error}")


def _done_step(
    operation: Operation, do_step: Callable[[Operation], bool], clock: Callable[[], datetime]
) -> bool:
    """Do one step, again if the database refused it for the sake of another transaction."""
    for attempt in range(1, STEP_ATTEMPTS_MAX + 1):
        try:
            with transaction.atomic():
                held = step(operation, now=clock())
                more = do_step(held)
                point(f"{operation.kind}.before_commit")
            point(f"{operation.kind}.step_done")
            return more
        except (DatabaseError, psycopg.DatabaseError, Unavailable) as error:
            if attempt == STEP_ATTEMPTS_MAX:
                raise
            log.warning("operation.step_repeated", error=str(error).splitlines()[0])
            time.sleep(uniform(0.05, 0.2) * attempt)  # noqa: S311  jitter, not a secret
    raise AssertionError("unreachable")


@transaction.atomic
def _end(operation: Operation, status: str, *, now: datetime, error: str = "") -> None:
    held = Operation.objects.select_for_update().get(id=operation.id)
    if held.fence != operation.fence or held.status != Status.PROCESSING:
        return
    if status == Status.CANCELLED and not held.cancel_requested:
        return
    held.status, held.error, held.lease_until = status, error[:1000], None
    held.updated_at = now
    held.completed_at = now
    held.save()


def _locked(tenant_id: int, operation_id: UUID) -> Operation:
    rows = Operation.objects.select_for_update().filter(tenant_id=tenant_id, id=operation_id)
    operation = rows.first()
    if operation is None:
        raise NotFound()
    return operation


@transaction.atomic
def cancel(*, tenant_id: int, operation_id: UUID, actor: str, now: datetime) -> Operation:
    """Stop the operation at the end of the step that runs now. What is done stays done."""
    operation = _locked(tenant_id, operation_id)
    if operation.status not in TO_DO:
        raise Conflict(f"The operation is {operation.status}.", code="operation_ended")
    if operation.cancel_requested:
        return operation
    operation.cancel_requested, operation.updated_at = True, now
    idle = operation.lease_until is None or operation.lease_until < now
    if operation.status == Status.PENDING or idle:
        operation.status, operation.completed_at = Status.CANCELLED, now
    operation.save()
    _record(operation, "cancelled", actor, now)
    return operation


@transaction.atomic
def resume(*, tenant_id: int, operation_id: UUID, actor: str, now: datetime) -> Operation:
    """Let a cancelled or failed operation go on where it stopped."""
    operation = _locked(tenant_id, operation_id)
    if operation.status not in {Status.CANCELLED, Status.FAILED}:
        raise Conflict(f"The operation is {operation.status}.", code="operation_not_stopped")
    busy = Operation.objects.filter(tenant_id=tenant_id, kind=Kind.REPLAY, status__in=TO_DO)
    if operation.kind == Kind.REPLAY and busy.exists():
        raise Conflict("Another replay is running.", code="replay_running")
    operation.status, operation.cancel_requested = Status.PENDING, False
    operation.error, operation.completed_at, operation.lease_until = "", None, None
    operation.fence = F("fence") + 1
    operation.updated_at = now
    operation.save()
    operation.refresh_from_db()
    _record(operation, "resumed", actor, now)
    return operation


def operations(
    *, tenant_id: int, limit: int, offset: int = 0, kind: str | None = None, status: str | None
) -> tuple[list[Operation], int]:
    """A page of the tenant's operations, newest first, and how many there are in all."""
    rows = Operation.objects.filter(tenant_id=tenant_id)
    if kind:
        rows = rows.filter(kind=kind)
    if status:
        rows = rows.filter(status=status)
    found = rows.order_by("-created_at", "-id")[offset : offset + limit]
    return list(found), rows.count()


def operation(*, tenant_id: int, operation_id: UUID, kind: str | None = None) -> Operation:
    """One operation. Raises `NotFound`, also for those of other tenants."""
    rows = Operation.objects.filter(tenant_id=tenant_id, id=operation_id)
    found = (rows.filter(kind=kind) if kind else rows).first()
    if found is None:
        raise NotFound()
    return found
