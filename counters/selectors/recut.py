"""What a change of calendar would do: periods before and after, and what is counted anew."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, Exists, OuterRef, QuerySet, Sum

from counters.calendars import Calendar, Cut
from counters.models import BillingCalendar, BillingPeriod, Counter
from counters.selectors.periods import FROZEN_STATES, calendar_of, cut_of
from stripemeter.lib.periods import Period


@dataclass(frozen=True, slots=True)
class Recut:
    """The effect of another calendar on a customer, or on all without one of their own."""

    before: list[Period]
    after: list[Period]
    #: Counters that are counted anew, of how many customers and events.
    counters: int
    customers: int
    events: int
    #: Counters of frozen periods: they stay.
    frozen: int


def preview_recut(
    *,
    tenant_id: int,
    customer_ref: str | None,
    calendar: Calendar | None,
    since: datetime,
    until: datetime,
) -> Recut:
    """What cutting by ``calendar`` (None: by what is in force without it) would change.

    The periods are those that touch ``[since, until)``; the counts are over all time.
    """
    old = cut_of(tenant_id=tenant_id, customer_ref=customer_ref or "")
    if calendar is None and customer_ref is not None:
        default = BillingCalendar.objects.filter(tenant_id=tenant_id, customer_ref=None).first()
        calendar = calendar_of(default) if default else None
    rows = _governed(tenant_id, customer_ref)
    counts = rows.filter(is_frozen=False).aggregate(
        counters=Count("period_start"),
        customers=Count("customer_ref", distinct=True),
        events=Sum("event_count"),
    )
    return Recut(
        before=list(old.periods(since, until)),
        after=list(Cut(calendar, old.fixed).periods(since, until)),
        counters=counts["counters"],
        customers=counts["customers"],
        events=counts["events"] or 0,
        frozen=rows.filter(is_frozen=True).count(),
    )


def _governed(tenant_id: int, customer_ref: str | None) -> QuerySet[Any]:
    """Counters cut by the calendar of ``customer_ref``, or by the default."""
    frozen = BillingPeriod.objects.filter(
        tenant_id=OuterRef("tenant_id"),
        customer_ref=OuterRef("customer_ref"),
        state__in=FROZEN_STATES,
        span__contains=OuterRef("period_start"),
    )
    rows = Counter.objects.filter(tenant_id=tenant_id).annotate(is_frozen=Exists(frozen))
    if customer_ref is not None:
        return rows.filter(customer_ref=customer_ref)
    own = BillingCalendar.objects.filter(
        tenant_id=OuterRef("tenant_id"), customer_ref=OuterRef("customer_ref")
    )
    return rows.filter(~Exists(own))
