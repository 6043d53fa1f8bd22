"""Booking what Stripe holds without our doing, and taking usage from a wrong customer.

A correction is never a number changed in place. What Stripe has too much is booked as an
acknowledged push (adopted), so that the pushed total says what Stripe holds; the ordinary
planner then sends the difference. Repeating a correction finds the first one.
"""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import uuid_utils
from django.db import transaction
from django.db.models import F

from billing.models import Push, PushCursor, PushSlice
from billing.models.pushes import OPEN_STATES
from stripemeter.lib.errors import Conflict

ADOPTED = "adopted"
CORRECTION = "correction"


@dataclass(frozen=True, slots=True)
class CursorKey:
    """Which cursor."""

    tenant_id: int
    mapping_id: UUID
    customer_ref: str
    period_start: datetime
    mode: str

    def fields(self) -> dict[str, Any]:
        """The key as filter arguments."""
        return {
            "tenant_id": self.tenant_id,
            "mapping_id": self.mapping_id,
            "customer_ref": self.customer_ref,
            "period_start": self.period_start,
            "mode": self.mode,
        }


@dataclass(frozen=True, slots=True)
class Lane:
    """Where at Stripe the value stands or goes."""

    account_id: int
    target: str
    stripe_customer_id: str
    semantics: str


@transaction.atomic
def adopt(
    *,
    key: CursorKey,
    lane: Lane,
    identifier: str,
    delta: Decimal,
    day: date,
    stamped_at: datetime,
    evidence: dict[str, Any],
    now: datetime,
) -> Push:
    """Book ``delta`` that Stripe already holds as acknowledged; planning sends the rest.

    Units are Stripe's. Nothing is sent by this call. Raises `Conflict` without a cursor.
    """
    return _book(
        key, lane, identifier, delta, day, stamped_at, evidence, now, Push.State.ACKNOWLEDGED
    )


@transaction.atomic
def send(
    *,
    key: CursorKey,
    lane: Lane,
    identifier: str,
    delta: Decimal,
    day: date,
    stamped_at: datetime,
    evidence: dict[str, Any],
    now: datetime,
) -> Push:
    """Intend one signed increment to ``lane``, which need not be the linked customer's.

    Raises `Conflict` while a push of the same slice is open: its outcome decides first.
    """
    known = Push.objects.filter(tenant_id=key.tenant_id, identifier=identifier).first()
    if known is None:
        _lock(key)
        if Push.objects.filter(**key.fields(), slice_day=day, state__in=OPEN_STATES).exists():
            raise Conflict("A push of this day is under way; try again when it is settled.")
    return _book(key, lane, identifier, delta, day, stamped_at, evidence, now, Push.State.PENDING)


def _lock(key: CursorKey) -> PushCursor:
    cursor = PushCursor.objects.select_for_update().filter(**key.fields()).first()
    if cursor is None:
        raise Conflict("Nothing was ever pushed for this customer and period.")
    return cursor


def _book(
    key: CursorKey,
    lane: Lane,
    identifier: str,
    delta: Decimal,
    day: date,
    stamped_at: datetime,
    evidence: dict[str, Any],
    now: datetime,
    state: str,
) -> Push:
    cursor = _lock(key)
    known = Push.objects.filter(tenant_id=key.tenant_id, identifier=identifier).first()
    if known is not None:
        return known
    acknowledged = state == Push.State.ACKNOWLEDGED
    push = Push(
        **key.fields(),
        id=UUID(bytes=uuid_utils.uuid7().bytes),
        slice_day=day,
        sequence=cursor.next_sequence,
        account_id=lane.account_id,
        semantics=lane.semantics,
        target=lane.target,
        stripe_customer_id=lane.stripe_customer_id,
        identifier=identifier,
        value=delta,
        delta=delta,
        stamped_at=stamped_at,
        state=state,
        not_before=now,
        created_at=now,
        settled_at=now if acknowledged else None,
        error_code=ADOPTED if acknowledged else CORRECTION,
        evidence=evidence,
    )
    push.save(force_insert=True)
    PushSlice.objects.bulk_create([PushSlice(**key.fields(), day=day)], ignore_conflicts=True)
    PushSlice.objects.filter(**key.fields(), day=day).update(intended=F("intended") + delta)
    PushCursor.objects.filter(**key.fields()).update(
        next_sequence=cursor.next_sequence + 1, seen_revision=-1
    )
    return push


@transaction.atomic
def release_cursor(*, key: CursorKey) -> bool:
    """Let one held cursor be planned again; its parked pushes must be rejected before."""
    return bool(
        PushCursor.objects.filter(**key.fields()).update(
            held_at=None, held_reason="", rejections=0, not_before=None, seen_revision=-1
        )
    )
