"""Sets and clears billing calendars, and re-cuts the counters they govern.

A re-cut deletes what was cut along the old boundaries and adds the events again along the
new ones, under the fold lock. Fixed periods (closing, frozen, sealed) keep their bounds; frozen
ones keep their counters too. Adjustments go to the period that now holds their day.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, LiteralString
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.db import connection, transaction

from counters import locks
from counters.calendars import INTERVAL_COUNT_MAX
from counters.models import BillingCalendar, BillingPeriod, PeriodState
from counters.services import periods
from counters.services.fold import add_events, special_metrics
from stripemeter.lib.errors import NotFound, invalid
from stripemeter.lib.faults import point
from stripemeter.lib.instants import rfc3339
from stripemeter.tenancy import audit
from stripemeter.tenancy.models import Tenant

_SETTINGS = ("anchor", "interval", "interval_count", "zone", "source", "stripe_subscription_item")


@transaction.atomic
def set_calendar(
    *,
    tenant_id: int,
    customer_ref: str | None,
    anchor: datetime,
    interval: str,
    actor: str,
    now: datetime,
    interval_count: int = 1,
    zone: str = "UTC",
    source: str = BillingCalendar.Source.OPERATOR,
    stripe_subscription_item: str = "",
) -> BillingCalendar:
    """Cut the time of the customer (None: of every customer without its own) by a calendar.

    Setting what is set already changes nothing. Raises `InvalidRequest` for a calendar longer
    than three years or an unknown zone.
    """
    _check(interval, interval_count, zone)
    locks.fold_lock(tenant_id)
    row = BillingCalendar.objects.filter(tenant_id=tenant_id, customer_ref=customer_ref).first()
    before = _described(row)
    row = row or BillingCalendar(tenant_id=tenant_id, customer_ref=customer_ref)
    row.anchor, row.interval, row.interval_count, row.zone = anchor, interval, interval_count, zone
    row.source, row.stripe_subscription_item = source, stripe_subscription_item
    after = _described(row)
    if before == after:
        return row
    row.save()
    Tenant.objects.filter(pk=tenant_id).update(has_calendars=True)
    recut(tenant_id, None if customer_ref is None else [customer_ref])
    audit.record(
        tenant_id=tenant_id,
        actor=actor,
        action="calendar.set",
        object_type="calendar",
        object_id=customer_ref or "default",
        now=now,
        before=before,
        after=after,
    )
    return row


@transaction.atomic
def clear_calendar(*, tenant_id: int, customer_ref: str | None, actor: str, now: datetime) -> None:
    """Take a calendar away: the tenant's default, or the UTC month, cuts from now on.

    Raises `NotFound` if there is none. The tenant stays marked as having calendars: periods
    that were fixed along the old one still have to be looked up.
    """
    locks.fold_lock(tenant_id)
    row = BillingCalendar.objects.filter(tenant_id=tenant_id, customer_ref=customer_ref).first()
    if row is None:
        raise NotFound()
    before = _described(row)
    row.delete()
    recut(tenant_id, None if customer_ref is None else [customer_ref])
    audit.record(
        tenant_id=tenant_id,
        actor=actor,
        action="calendar.cleared",
        object_type="calendar",
        object_id=customer_ref or "default",
        now=now,
        before=before,
    )


def _check(interval: str, interval_count: int, zone: str) -> None:
    longest = INTERVAL_COUNT_MAX.get(interval)
    if longest is None:
        raise invalid("interval", f"must be one of {', '.join(INTERVAL_COUNT_MAX)}")
    if not 1 <= interval_count <= longest:
        raise invalid("intervalCount", f"must be 1 to {longest} for {interval}")
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise invalid("zone", "must be an IANA time zone", code="invalid_zone") from error


def _described(row: BillingCalendar | None) -> dict[str, Any] | None:
    if row is None:
        return None
    values = {name: getattr(row, name) for name in _SETTINGS}
    return {**values, "anchor": rfc3339(row.anchor)}


_CUSTOMERS: LiteralString = """
SELECT customer_ref, min(first), max(last) FROM (
    SELECT customer_ref, min(ts) AS first, max(ts) AS last
    FROM ledger_event WHERE tenant_id = %(tenant)s
      AND (%(customers)s::text[] IS NULL OR customer_ref = ANY(%(customers)s)) GROUP BY 1
    UNION ALL
    SELECT customer_ref, min(greatest(day::timestamptz, period_start)),
           max(greatest(day::timestamptz, period_start))
    FROM counters_adjustment WHERE tenant_id = %(tenant)s
      AND (%(customers)s::text[] IS NULL OR customer_ref = ANY(%(customers)s)) GROUP BY 1
) found
WHERE %(customers)s::text[] IS NOT NULL OR customer_ref NOT IN (
    SELECT customer_ref FROM counters_billingcalendar
    WHERE tenant_id = %(tenant)s AND customer_ref IS NOT NULL)
GROUP BY 1 ORDER BY 1
"""
_THAWED: LiteralString = """
x.tenant_id = %(tenant)s AND x.customer_ref = ANY(%(refs)s) AND NOT EXISTS (
    SELECT FROM counters_billingperiod b
    WHERE b.tenant_id = x.tenant_id AND b.customer_ref = x.customer_ref
      AND b.state IN ('frozen', 'sealed') AND b.span @> x.period_start)
"""
_EVENTS: LiteralString = """
SELECT e.*, p.period_start, p.period_end, e.ts::date AS day
FROM ledger_event e
JOIN unnest(%(customers)s::text[], %(starts)s::timestamptz[], %(ends)s::timestamptz[])
     AS p(customer_ref, period_start, period_end)
  ON p.customer_ref = e.customer_ref AND e.ts >= p.period_start AND e.ts < p.period_end
WHERE e.tenant_id = %(tenant)s AND e.customer_ref = ANY(%(refs)s)
  AND NOT EXISTS (SELECT FROM ledger_pendingbatch b WHERE b.batch_id = e.batch_id)
  AND NOT EXISTS (SELECT FROM counters_lateevent l
                  WHERE l.tenant_id = e.tenant_id AND l.key = e.key)
  AND NOT EXISTS (SELECT FROM counters_billingperiod b
                  WHERE b.tenant_id = e.tenant_id AND b.customer_ref = e.customer_ref
                    AND b.state IN ('frozen', 'sealed') AND b.span @> e.ts)
"""
_MOVE_ADJUSTMENTS: LiteralString = (
    """
UPDATE counters_adjustment x SET period_start = p.period_start
FROM unnest(%(customers)s::text[], %(starts)s::timestamptz[], %(ends)s::timestamptz[])
     AS p(customer_ref, period_start, period_end)
WHERE p.customer_ref = x.customer_ref
  AND greatest(x.day::timestamptz, x.period_start) >= p.period_start
  AND greatest(x.day::timestamptz, x.period_start) < p.period_end
  AND x.period_start <> p.period_start AND """
    + _THAWED
)
_ADJUSTED: LiteralString = (
    """
INSERT INTO counters_counter AS c (tenant_id, metric_id, customer_ref, period_start, period_end,
    sum, event_count, unique_count, adjusted, revision)
SELECT x.tenant_id, x.metric_id, x.customer_ref, p.period_start, p.period_end, 0, 0, 0,
       sum(x.delta), 1
FROM counters_adjustment x
JOIN unnest(%(customers)s::text[], %(starts)s::timestamptz[], %(ends)s::timestamptz[])
     AS p(customer_ref, period_start, period_end)
  ON p.customer_ref = x.customer_ref AND p.period_start = x.period_start
WHERE x.status IN ('approved', 'reverted') AND """
    + _THAWED
    + """
GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4
ON CONFLICT (tenant_id, metric_id, customer_ref, period_start)
DO UPDATE SET adjusted = excluded.adjusted
"""
)


def recut(tenant_id: int, customers: Sequence[str] | None) -> None:
    """Cut the counters of ``customers`` (None: all without a calendar of their own) anew.

    The caller holds the fold lock and has written the calendars.
    """
    wanted: dict[str, Any] = {
        "tenant": tenant_id,
        "customers": None if customers is None else list(customers),
    }
    with connection.cursor() as cursor:
        cursor.execute(_CUSTOMERS, wanted)
        spans = cursor.fetchall()
    refs = [ref for ref, _, _ in spans]
    BillingPeriod.objects.filter(
        tenant_id=tenant_id, customer_ref__in=refs, state=PeriodState.OPEN
    ).delete()
    parameters: dict[str, Any] = {
        "tenant": tenant_id,
        "refs": refs,
        **periods.of_spans(tenant_id, spans),
    }
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(max(revision), 0) FROM counters_counter x WHERE " + _THAWED,
            parameters,
        )
        (revision,) = cursor.fetchone()
        for table in ("counters_counter", "counters_dailyrollup", "counters_uniquemember"):
            cursor.execute(f"DELETE FROM {table} x WHERE " + _THAWED, parameters)
    point("recut.cleared")
    add_events(_EVENTS, parameters, special_metrics([tenant_id]))
    with connection.cursor() as cursor:
        cursor.execute(_MOVE_ADJUSTMENTS, parameters)
        cursor.execute(_ADJUSTED, parameters)
        # Counters that have the key of an old one must look newer than it to consumers.
        cursor.execute(
            "UPDATE counters_counter x SET revision = revision + %(revision)s WHERE " + _THAWED,
            {**parameters, "revision": revision},
        )
