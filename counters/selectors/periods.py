"""Which billing period an instant falls into, for a customer."""

from datetime import datetime

from counters.models import BillingPeriod, PeriodState
from stripemeter.lib.periods import Period, utc_month


def period_of(*, tenant_id: int, customer_ref: str, instant: datetime) -> Period:
    """The billing period of the customer that holds ``instant``: half-open, in UTC."""
    return utc_month(instant)


def period_state(*, tenant_id: int, customer_ref: str, period_start: datetime) -> str:
    """The state of a customer's period; open while nothing has closed it."""
    state = (
        BillingPeriod.objects.filter(
            tenant_id=tenant_id, customer_ref=customer_ref, span__startswith=period_start
        )
        .values_list("state", flat=True)
        .first()
    )
    return state or PeriodState.OPEN
