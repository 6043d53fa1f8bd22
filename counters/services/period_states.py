"""A period's life: open, closing, frozen, sealed. Its invoice decides, billing says so."""

from datetime import datetime

from django.db import transaction
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange

from counters import locks
from counters.models import BillingPeriod, PeriodState
from counters.selectors.periods import FROZEN_STATES, period_of
from counters.services import fold
from stripemeter.lib.errors import Conflict
from stripemeter.lib.instants import rfc3339
from stripemeter.lib.periods import Period
from stripemeter.tenancy import audit

#: The order in which a period ages; it never grows younger.
STATE_ORDER = (
    PeriodState.OPEN,
    PeriodState.CLOSING,
    PeriodState.FROZEN,
    PeriodState.SEALED,
)


@transaction.atomic
def set_period_state(
    *,
    tenant_id: int,
    customer_ref: str,
    period_start: datetime,
    state: str,
    now: datetime,
    actor: str = "system",
    finalizes_at: datetime | None = None,
) -> BillingPeriod:
    """Move the customer's period that holds ``period_start`` on to ``state``.

    States only grow older, steps may be left out; the same state again changes nothing but
    ``finalizes_at``. What is stored at this moment is folded before the period freezes, so an
    event acknowledged while it was open is in it. Raises `Conflict` for a step back.
    """
    locks.fold_lock(tenant_id)
    period = period_of(tenant_id=tenant_id, customer_ref=customer_ref, instant=period_start)
    row = _locked_period(tenant_id, customer_ref, period)
    before, wanted = STATE_ORDER.index(PeriodState(row.state)), PeriodState(state)
    if STATE_ORDER.index(wanted) < before:
        raise Conflict(
            f"The period is {row.state}; it cannot become {state} again.", code="period_state"
        )
    row.finalizes_at = finalizes_at or row.finalizes_at
    if wanted == row.state:
        row.save(update_fields=["finalizes_at"])
        return row
    if wanted in FROZEN_STATES and row.frozen_at is None:
        fold.fold_pending_of(tenant_id, now=now)
        row.frozen_at = now
    audit.record(
        tenant_id=tenant_id,
        actor=actor,
        action=f"period.{wanted}",
        object_type="period",
        object_id=f"{customer_ref} {rfc3339(period.start)}"[:200],
        now=now,
        before={"state": row.state},
        after={"state": wanted.value, "finalizesAt": finalizes_at and rfc3339(finalizes_at)},
    )
    row.state = wanted
    row.save(update_fields=["state", "finalizes_at", "frozen_at"])
    return row


def _locked_period(tenant_id: int, customer_ref: str, period: Period) -> BillingPeriod:
    span = DateTimeTZRange(period.start, period.end, "[)")
    BillingPeriod.objects.bulk_create(
        [BillingPeriod(tenant_id=tenant_id, customer_ref=customer_ref, span=span)],
        ignore_conflicts=True,
    )
    return BillingPeriod.objects.select_for_update().get(
        tenant_id=tenant_id, customer_ref=customer_ref, span__startswith=period.start
    )
