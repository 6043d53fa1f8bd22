"""Usage over time: one value per bucket of a chosen width and zone.

Whole UTC days are read from the daily rollups; minutes, hours and days of other zones from
the events. Either way what is stored and not yet folded is included.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, LiteralString

from django.db import connection

from counters import aggregate_sql
from counters.calendars import LONGEST_PERIOD
from counters.totals import ADDITIVE
from ledger.models import Metric
from stripemeter.lib.errors import invalid

INTERVALS = ("minute", "hour", "day", "week", "month")
POINTS_MAX = 10_000
_SECONDS = {"minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800, "month": 2_419_200}

_VALUE: dict[str, LiteralString] = {
    "sum": "sum(quantity)",
    "count": "sum(event_count)",
    "max": "max(quantity)",
    "min": "min(quantity)",
    "average": "round(avg(quantity), 12)",
    "last": "(array_agg(quantity ORDER BY ts DESC, batch_id DESC, key DESC))[1]",
}
#: Approved adjustments, at the start of their UTC day within their period, for aggregations that
#: add up. The effect of late events is such an adjustment, so their events are left out.
_ADJUSTED: LiteralString = """
    UNION ALL
    SELECT greatest(a.day::timestamptz, a.period_start), a.delta, a.delta, 0, NULL::uuid
    FROM counters_adjustment a
    WHERE a.tenant_id = %(tenant)s AND a.metric_id = %(metric)s
      AND a.status IN ('approved', 'reverted')
      AND (%(customer)s::text IS NULL OR a.customer_ref = %(customer)s)
      AND greatest(a.day::timestamptz, a.period_start) >= %(since)s
      AND greatest(a.day::timestamptz, a.period_start) < %(until)s
"""
_FROM_EVENTS: LiteralString = """
SELECT date_trunc(%(interval)s, ts, %(zone)s) AS bucket, {value} FROM (
    SELECT e.ts, e.quantity, 1::numeric AS event_count, e.batch_id, e.key FROM ledger_event e
    WHERE e.tenant_id = %(tenant)s AND e.metric_id = %(metric)s
      AND (%(customer)s::text IS NULL OR e.customer_ref = %(customer)s)
      AND e.ts >= %(since)s AND e.ts < %(until)s
      AND NOT EXISTS (SELECT FROM counters_lateevent l
                      WHERE l.tenant_id = e.tenant_id AND l.key = e.key)
      AND e.key NOT IN ({held})
    {adjusted}
) parts GROUP BY 1 ORDER BY 1
"""
#: A member counts once in each billing period of a customer, in the bucket where it first appears
#: there, so that buckets add up to the totals. Until the first fold of a period no counter says its
#: bounds: then it is taken for a UTC month.
_UNIQUE_FROM_EVENTS: LiteralString = (
    """
SELECT date_trunc(%(interval)s, first_ts, %(zone)s) AS bucket, count(*)::numeric FROM (
    SELECT """
    + aggregate_sql.MEMBER
    + """ AS member, min(s.ts) AS first_ts
    FROM ledger_event s JOIN ledger_metric m ON m.id = s.metric_id
    LEFT JOIN counters_counter c
      ON c.tenant_id = s.tenant_id AND c.metric_id = s.metric_id
     AND c.customer_ref = s.customer_ref AND s.ts >= c.period_start AND s.ts < c.period_end
    WHERE s.tenant_id = %(tenant)s AND s.metric_id = %(metric)s
      AND (%(customer)s::text IS NULL OR s.customer_ref = %(customer)s)
      AND s.ts >= %(since)s AND s.ts < %(until)s
      AND NOT EXISTS (SELECT FROM counters_lateevent l
                      WHERE l.tenant_id = s.tenant_id AND l.key = s.key)
      AND s.key NOT IN ("""
    + aggregate_sql.HELD_KEYS
    + """)
    GROUP BY s.customer_ref, coalesce(c.period_start, date_trunc('month', s.ts)), 1
) first WHERE member IS NOT NULL GROUP BY 1 ORDER BY 1
"""
)
_FROM_ROLLUPS: LiteralString = (
    """
SELECT date_trunc(%(interval)s, ts) AS bucket, {value} FROM (
    SELECT day::timestamptz AS ts, sum AS quantity, event_count::numeric AS event_count, max, min
    FROM counters_dailyrollup
    WHERE tenant_id = %(tenant)s AND metric_id = %(metric)s
      AND (%(customer)s::text IS NULL OR customer_ref = %(customer)s)
      AND period_start > %(since)s::timestamptz - %(longest)s::interval
      AND day >= %(since)s::date AND day < %(until)s::date
    UNION ALL
    SELECT s.ts, s.quantity, 1, s.quantity, s.quantity
    FROM """
    + aggregate_sql.PENDING
    + """
    WHERE p.tenant_id = %(tenant)s AND s.metric_id = %(metric)s
      AND (%(customer)s::text IS NULL OR s.customer_ref = %(customer)s)
      AND s.ts >= %(since)s AND s.ts < %(until)s AND s.key NOT IN ({held})
    {adjusted}
) parts GROUP BY 1 ORDER BY 1
"""
)
_ROLLUP_VALUE: dict[str, LiteralString] = {
    "sum": "sum(quantity)",
    "count": "sum(event_count)",
    "max": "max(max)",
    "min": "min(min)",
    "average": "round(sum(quantity) / nullif(sum(event_count), 0), 12)",
}


@dataclass(frozen=True, slots=True)
class Point:
    """The value of the bucket that begins at ``ts``."""

    ts: datetime
    value: Decimal


def usage_history(
    *,
    tenant_id: int,
    metric: Metric,
    customer_ref: str | None,
    since: datetime,
    until: datetime,
    interval: str,
    zone: str = "UTC",
) -> list[Point]:
    """The metric's usage in ``[since, until)`` per bucket, ascending; empty buckets left out.

    For sum and count, approved adjustments count at the start of their UTC day (of their
    period, if it begins later), so the buckets
    add up to the total. Raises `InvalidRequest` for a range of more than 10,000 buckets.
    """
    if (until - since).total_seconds() / _SECONDS[interval] > POINTS_MAX:
        raise invalid("interval", f"gives more than {POINTS_MAX} points; widen it")
    parameters: dict[str, Any] = {
        "tenant": tenant_id,
        "metric": metric.pk,
        "customer": customer_ref,
        "since": since,
        "until": until,
        "interval": interval,
        "zone": zone,
        "longest": LONGEST_PERIOD,
    }
    with connection.cursor() as cursor:
        cursor.execute(_statement(metric.aggregation, interval, zone, since, until), parameters)
        return [Point(ts, value) for ts, value in cursor.fetchall()]


def _statement(
    aggregation: str, interval: str, zone: str, since: datetime, until: datetime
) -> LiteralString:
    if aggregation == "unique":
        return _UNIQUE_FROM_EVENTS
    whole_days = all(
        (instant.hour, instant.minute, instant.second, instant.microsecond) == (0, 0, 0, 0)
        for instant in (since, until)
    )
    adjusted = _ADJUSTED if aggregation in ADDITIVE else ""
    if (
        aggregation in _ROLLUP_VALUE
        and zone == "UTC"
        and whole_days
        and interval not in {"minute", "hour"}
    ):
        rolled = adjusted.replace("0, NULL::uuid", "NULL, NULL")
        value, adjusted, statement = _ROLLUP_VALUE[aggregation], rolled, _FROM_ROLLUPS
    else:
        value, statement = _VALUE[aggregation], _FROM_EVENTS
    return statement.format(value=value, adjusted=adjusted, held=aggregate_sql.HELD_KEYS)
