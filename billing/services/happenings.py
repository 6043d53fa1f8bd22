"""What happens to pushes, accounts and periods, put into words for webhooks."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q

from billing.models import PriceMapping, StripeAccount
from billing.services.notices import Event, emit
from counters.models import BillingPeriod
from counters.selectors.periods import period_state
from counters.services.period_states import set_period_state
from stripemeter.lib.instants import rfc3339

#: States of a push that a tenant may be told of.
TOLD = frozenset({"acknowledged", "parked", "needs_review"})


def tell_pushes(pushes: Sequence[tuple[Any, str, str]], *, now: datetime) -> None:
    """Queue events for (push, new state, reason), in the transaction of the change."""
    emit(
        [
            Event(
                push.tenant_id,
                f"push.{state}",
                {
                    "pushId": str(push.id),
                    "mappingId": str(push.mapping_id),
                    "customerRef": push.customer_ref,
                    "periodStart": rfc3339(push.period_start),
                    "mode": push.mode,
                    "value": push.value,
                    "identifier": push.identifier,
                    "reason": reason or None,
                },
            )
            for push, state, reason in pushes
            if state in TOLD
        ],
        now=now,
    )


def tell_halt(account: StripeAccount, *, now: datetime) -> None:
    """Queue an event for every tenant that pushes to the account."""
    named = (
        Q(stripe_account=account.account)
        if account.mode == "live"
        else Q(shadow_stripe_account=account.account)
    )
    tenants = PriceMapping.objects.filter(named, active=True).values_list("tenant_id", flat=True)
    data = {
        "account": account.account,
        "mode": account.mode,
        "reason": account.halted_reason,
        "haltedAt": rfc3339(now),
    }
    emit([Event(tenant, "push.account_halted", data) for tenant in sorted(set(tenants))], now=now)


@transaction.atomic
def move_period(
    *,
    tenant_id: int,
    customer_ref: str,
    period_start: datetime,
    state: str,
    now: datetime,
    actor: str,
    finalizes_at: datetime | None = None,
) -> BillingPeriod:
    """`set_period_state`, and an event if that changed it. Raises `Conflict`."""
    before = period_state(tenant_id=tenant_id, customer_ref=customer_ref, period_start=period_start)
    row = set_period_state(
        tenant_id=tenant_id,
        customer_ref=customer_ref,
        period_start=period_start,
        state=state,
        now=now,
        actor=actor,
        finalizes_at=finalizes_at,
    )
    if row.state != before:
        data = {
            "customerRef": customer_ref,
            "periodStart": rfc3339(row.span.lower),
            "periodEnd": rfc3339(row.span.upper),
            "state": str(row.state),
            "before": str(before),
        }
        emit([Event(tenant_id, f"period.{row.state}", data)], now=now)
    return row
