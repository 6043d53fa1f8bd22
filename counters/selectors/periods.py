"""Which billing period an instant falls into, for a customer."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from django.db.models import Q

from counters.calendars import PERIODS_MAX, Calendar, Cut
from counters.models import BillingCalendar, BillingPeriod, PeriodState
from stripemeter.lib.errors import invalid
from stripemeter.lib.livesql import raw_cursor
from stripemeter.lib.periods import Period
from stripemeter.tenancy.models import Tenant

#: States in which a counter never changes again.
FROZEN_STATES = (PeriodState.FROZEN, PeriodState.SEALED)


def calendar_of(row: BillingCalendar) -> Calendar:
    """The pure calendar of a stored one."""
    return Calendar(row.anchor, row.interval, row.interval_count, row.zone)


def has_calendars(tenant_id: int) -> bool:
    """Whether any customer of the tenant is billed by something else than UTC months."""
    return Tenant.objects.filter(pk=tenant_id, has_calendars=True).exists()


def has_frozen(tenant_id: int) -> bool:
    """Whether any counter of the tenant never changes again."""
    return BillingPeriod.objects.filter(tenant_id=tenant_id, state__in=FROZEN_STATES).exists()


def cuts_of(*, tenant_id: int, customers: Collection[str]) -> dict[str, Cut]:
    """How the time of each of ``customers`` is cut."""
    if not has_calendars(tenant_id):
        return dict.fromkeys(customers, Cut())
    calendars = {
        row.customer_ref: calendar_of(row)
        for row in BillingCalendar.objects.filter(tenant_id=tenant_id).filter(
            Q(customer_ref__in=list(customers)) | Q(customer_ref__isnull=True)
        )
    }
    fixed: dict[str, list[Period]] = {}
    rows = BillingPeriod.objects.filter(tenant_id=tenant_id, customer_ref__in=list(customers))
    for ref, span in (
        rows.exclude(state=PeriodState.OPEN).order_by("span").values_list("customer_ref", "span")
    ):
        fixed.setdefault(ref, []).append(Period(span.lower, span.upper))
    default = calendars.get(None)
    return {ref: Cut(calendars.get(ref, default), tuple(fixed.get(ref, ()))) for ref in customers}


#: No row for a tenant without calendars.
_CUT: LiteralString = """
SELECT c.anchor, c.interval, c.interval_count, c.zone, f.spans
FROM tenancy_tenant t
LEFT JOIN LATERAL (
    SELECT * FROM counters_billingcalendar c
    WHERE c.tenant_id = t.id AND (c.customer_ref = %(customer)s OR c.customer_ref IS NULL)
    ORDER BY c.customer_ref NULLS LAST LIMIT 1
) c ON true
LEFT JOIN LATERAL (
    SELECT array_agg(b.span ORDER BY b.span) AS spans FROM counters_billingperiod b
    WHERE b.tenant_id = t.id AND b.customer_ref = %(customer)s AND b.state <> 'open'
) f ON true
WHERE t.id = %(tenant)s AND t.has_calendars
"""


def cut_of(*, tenant_id: int, customer_ref: str) -> Cut:
    """How the customer's time is cut: `cuts_of` for one, in one statement."""
    with raw_cursor() as cursor:
        cursor.execute(_CUT, {"tenant": tenant_id, "customer": customer_ref})
        row = cursor.fetchone()
    if row is None:
        return Cut()
    anchor, interval, count, zone, spans = row
    calendar = None if anchor is None else Calendar(anchor, interval, count, zone)
    return Cut(calendar, tuple(Period(span.lower, span.upper) for span in spans or ()))


def period_of(*, tenant_id: int, customer_ref: str, instant: datetime) -> Period:
    """The billing period of the customer that holds ``instant``: half-open, in UTC."""
    return cut_of(tenant_id=tenant_id, customer_ref=customer_ref).period_of(instant)


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


@dataclass(frozen=True, slots=True)
class ShownPeriod:
    """A period with what is known of its life."""

    period: Period
    state: str
    finalizes_at: datetime | None
    frozen_at: datetime | None


def periods_between(
    *, tenant_id: int, customer_ref: str, since: datetime, until: datetime
) -> list[ShownPeriod]:
    """How ``[since, until)`` of the customer is cut, ascending; at most 5,000 periods."""
    rows = {
        row.span.lower: row
        for row in BillingPeriod.objects.filter(
            tenant_id=tenant_id, customer_ref=customer_ref, span__overlap=(since, until)
        )
    }
    found = []
    for period in _bounded(cut_of(tenant_id=tenant_id, customer_ref=customer_ref), since, until):
        row = rows.get(period.start)
        found.append(
            ShownPeriod(
                period,
                row.state if row else PeriodState.OPEN,
                row.finalizes_at if row else None,
                row.frozen_at if row else None,
            )
        )
    return found


def _bounded(cut: Cut, since: datetime, until: datetime) -> Iterator[Period]:
    for number, period in enumerate(cut.periods(since, until)):
        if number >= PERIODS_MAX:
            raise invalid("until", f"holds more than {PERIODS_MAX} periods; narrow the range")
        yield period


def calendars_of(*, tenant_id: int, customer_ref: str | None = None) -> list[BillingCalendar]:
    """The tenant's calendars, its default first; only one customer's if named."""
    rows = BillingCalendar.objects.filter(tenant_id=tenant_id).select_related("tenant")
    if customer_ref is not None:
        rows = rows.filter(customer_ref=customer_ref)
    return sorted(rows, key=lambda row: (row.customer_ref is not None, row.customer_ref or ""))
