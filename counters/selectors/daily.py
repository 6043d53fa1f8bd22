"""Usage per UTC day of many metrics of one customer, in one statement."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, LiteralString

from django.db import connection

from counters import aggregate_sql
from counters.calendars import LONGEST_PERIOD
from counters.selectors.history import Point, usage_history
from counters.totals import ADDITIVE, Totals
from ledger.models import Metric

#: Rollups, what is stored and not yet folded, and approved adjustments (kind of row last).
_DAYS: LiteralString = (
    """
SELECT metric_id, day, sum(sum), sum(event_count), max(max), min(min),
       (array_agg(last ORDER BY last_ts DESC, batch_id DESC, key DESC)
        FILTER (WHERE last IS NOT NULL))[1],
       sum(adjusted)
FROM (
    SELECT metric_id, day, sum, event_count, max, min, last, last_ts,
           last_batch_id AS batch_id, last_key AS key, 0::numeric AS adjusted
    FROM counters_dailyrollup
    WHERE tenant_id = %(tenant)s AND metric_id = ANY(%(metrics)s) AND customer_ref = %(customer)s
      AND period_start > %(since)s::timestamptz - %(longest)s::interval
      AND day >= %(since)s::date AND day < %(until)s::date
    UNION ALL
    SELECT s.metric_id, (s.ts AT TIME ZONE 'UTC')::date, s.quantity, 1, s.quantity, s.quantity,
           s.quantity, s.ts, s.batch_id, s.key, 0
    FROM """
    + aggregate_sql.PENDING
    + """
    WHERE p.tenant_id = %(tenant)s AND s.metric_id = ANY(%(metrics)s)
      AND s.customer_ref = %(customer)s AND s.ts >= %(since)s AND s.ts < %(until)s
      AND s.key NOT IN ("""
    + aggregate_sql.HELD_KEYS
    + """)
    UNION ALL
    SELECT a.metric_id, a.day, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, a.delta
    FROM counters_adjustment a
    WHERE a.tenant_id = %(tenant)s AND a.metric_id = ANY(%(metrics)s)
      AND a.customer_ref = %(customer)s AND a.status IN ('approved', 'reverted')
      AND a.day >= %(since)s::date AND a.day < %(until)s::date
) parts GROUP BY 1, 2 ORDER BY 1, 2
"""
)


def daily_usage(
    *,
    tenant_id: int,
    metrics: Sequence[Metric],
    customer_ref: str,
    since: datetime,
    until: datetime,
) -> dict[int, list[Point]]:
    """Per metric id what `usage_history` gives for days; empty days left out.

    ``unique`` counts a member on the day it first appears, and days of other zones are cut
    otherwise, so both are read metric by metric.
    """
    found: dict[int, list[Point]] = {metric.pk: [] for metric in metrics}
    whole = all((i.hour, i.minute, i.second, i.microsecond) == (0, 0, 0, 0) for i in (since, until))
    together = {m.pk: m.aggregation for m in metrics if whole and m.aggregation != "unique"}
    for metric in metrics:
        if metric.pk not in together:
            found[metric.pk] = usage_history(
                tenant_id=tenant_id, metric=metric, customer_ref=customer_ref,
                since=since, until=until, interval="day",
            )  # fmt: skip
    if not together:
        return found
    with connection.cursor() as cursor:
        cursor.execute(
            _DAYS,
            {
                "tenant": tenant_id,
                "metrics": list(together),
                "customer": customer_ref,
                "since": since,
                "until": until,
                "longest": f"{LONGEST_PERIOD.days} days",
            },
        )
        for row in cursor.fetchall():
            value = _value(row, together[row[0]])
            if value is not None:
                start = since.replace(year=row[1].year, month=row[1].month, day=row[1].day)
                found[row[0]].append(Point(start, value))
    return found


def _value(row: tuple[Any, ...], aggregation: str) -> Decimal | None:
    _, _, total, count, high, low, last, adjusted = row
    if not count and aggregation not in ADDITIVE:
        return None  # an adjustment alone is no level
    value = Totals(total, int(count), high, low, last).of(aggregation)
    return value + adjusted if aggregation in ADDITIVE else value
