"""Current usage, exact at once: what is folded plus what is stored and not yet folded.

Both parts are read in one statement, hence in one snapshot: a caller that got 200 from
ingest sees its event in the next read, and no fold in between is counted twice or missed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, LiteralString

from django.db.models import Sum

from counters import aggregate_sql
from counters.models import Adjustment, Counter, DailyRollup
from counters.totals import ADDITIVE, Totals
from ledger.models import Metric
from stripemeter.lib.livesql import raw_cursor
from stripemeter.lib.periods import Period

#: Statuses whose delta counts: a reverted adjustment is undone by its counter-entry, which
#: is approved itself, so both stay in the sum.
COUNTED = ("approved", "reverted")

#: Parameters: tenant, customer, start, end, metric (an id, or null for all). Two rows per
#: metric at most: what is folded, and what is stored and not yet folded (`usage_of_rows`).
CURRENT: LiteralString = (
    """
SELECT m.id, m.name, m.aggregation, m.unit, m.configured, part.*, late.counted, late.held
FROM (
    SELECT c.metric_id, c.sum, c.event_count, c.max, c.min, c.last, c.last_ts,
           c.last_batch_id, c.last_key, c.unique_count, c.adjusted, c.watermark, c.folded_at,
           true AS folded
    FROM counters_counter c
    WHERE c.tenant_id = %(tenant)s AND c.customer_ref = %(customer)s
      AND c.period_start = %(start)s AND (%(metric)s::int IS NULL OR c.metric_id = %(metric)s)
    UNION ALL
    SELECT s.metric_id, sum(s.quantity), count(*), max(s.quantity), min(s.quantity),
           (array_agg(s.quantity ORDER BY s.ts DESC, s.batch_id DESC, s.key DESC))[1], max(s.ts),
           (array_agg(s.batch_id ORDER BY s.ts DESC, s.batch_id DESC, s.key DESC))[1],
           (array_agg(s.key ORDER BY s.ts DESC, s.batch_id DESC, s.key DESC))[1],
           count(DISTINCT """
    + aggregate_sql.MEMBER
    + """) FILTER (WHERE m.aggregation = 'unique' AND NOT EXISTS (
               SELECT FROM counters_uniquemember u
               WHERE u.tenant_id = s.tenant_id AND u.metric_id = s.metric_id
                 AND u.customer_ref = s.customer_ref AND u.period_start = %(start)s
                 AND u.member = """
    + aggregate_sql.MEMBER
    + """)),
           0, max(s.ts), max(s.recorded_at), false
    FROM """
    + aggregate_sql.PENDING
    + """
    JOIN ledger_metric m ON m.id = s.metric_id
    JOIN tenancy_tenant t ON t.id = s.tenant_id
    LEFT JOIN counters_counter c
      ON c.tenant_id = s.tenant_id AND c.metric_id = s.metric_id
     AND c.customer_ref = s.customer_ref AND c.period_start = %(start)s
    WHERE p.tenant_id = %(tenant)s AND s.customer_ref = %(customer)s
      AND s.ts >= %(start)s AND s.ts < %(end)s
      -- What the fold will hold for an operator is not usage yet.
      AND NOT """
    + aggregate_sql.HELD
    + """
      AND (%(metric)s::int IS NULL OR s.metric_id = %(metric)s)
    GROUP BY 1
) part JOIN ledger_metric m ON m.id = part.metric_id
LEFT JOIN (
    SELECT metric_id, sum(delta) FILTER (WHERE status = 'approved') AS counted,
           sum(delta) FILTER (WHERE status = 'pending') AS held
    FROM counters_adjustment
    WHERE tenant_id = %(tenant)s AND customer_ref = %(customer)s AND period_start = %(start)s
      AND reason = 'late_event' GROUP BY 1
) late ON late.metric_id = part.metric_id
ORDER BY m.name, part.folded DESC
"""
)


@dataclass(frozen=True, slots=True)
class MetricUsage:
    """One metric of one customer in one period, exact at the moment it was read."""

    metric_id: int
    name: str
    aggregation: str
    unit: str
    configured: bool
    totals: Totals
    adjusted: Decimal
    #: The part of `totals` that is stored and not yet folded, by the metric's aggregation.
    pending_events: int
    watermark: datetime | None
    last_recorded_at: datetime | None
    #: What late events did: the part of `adjusted` that is theirs, and what waits for an operator.
    late_counted: Decimal = Decimal(0)
    late_held: Decimal = Decimal(0)

    @property
    def folded(self) -> Decimal:
        """The total of the events, without adjustments."""
        return self.totals.of(self.aggregation)

    @property
    def total(self) -> Decimal:
        """What is billable: events plus approved adjustments."""
        return self.folded + self.adjusted


def current_usage(
    *, tenant_id: int, customer_ref: str, period: Period, metric_id: int | None = None
) -> list[MetricUsage]:
    """Usage of the customer in ``period``, one entry per metric that has any, by name."""
    with raw_cursor() as cursor:
        cursor.execute(
            CURRENT,
            {
                "tenant": tenant_id,
                "customer": customer_ref,
                "start": period.start,
                "end": period.end,
                "metric": metric_id,
            },
        )
        return usage_of_rows(cursor.fetchall())


def usage_of_rows(rows: Iterable[tuple[Any, ...]]) -> list[MetricUsage]:
    """What the rows of `CURRENT` say, one entry per metric."""
    parts: dict[int, list[tuple[Any, ...]]] = {}
    for row in rows:
        parts.setdefault(row[0], []).append(row)
    return [_metric_usage(found) for found in parts.values()]


def _metric_usage(rows: list[tuple[Any, ...]]) -> MetricUsage:
    totals = Totals()
    pending_events = 0
    for row in rows:
        totals = totals.merge(_totals(row[6:15]))
        pending_events += 0 if row[18] else row[7]
    metric_id, name, aggregation, unit, configured = rows[0][:5]
    return MetricUsage(
        metric_id=metric_id,
        name=name,
        aggregation=aggregation,
        unit=unit,
        configured=configured,
        totals=totals,
        adjusted=sum((row[15] for row in rows), Decimal(0)),
        pending_events=pending_events,
        watermark=_newest(row[16] for row in rows),
        last_recorded_at=_newest(row[17] for row in rows),
        late_counted=rows[0][19] or Decimal(0),
        late_held=rows[0][20] or Decimal(0),
    )


def _totals(columns: tuple[Any, ...]) -> Totals:
    total, count, high, low, last, last_ts, last_batch, last_key, unique = columns
    rank = None if last is None or last_ts is None else (last_ts, last_batch, last_key)
    return Totals(total, count, high, low, last, rank, unique)


def _newest(instants: Iterable[datetime | None]) -> datetime | None:
    return max((instant for instant in instants if instant is not None), default=None)


def totals_of(row: Counter | DailyRollup) -> Totals:
    """The aggregates of a counter or a rollup."""
    rank = None
    if row.last_ts is not None and row.last_batch_id is not None and row.last_key is not None:
        rank = (row.last_ts, row.last_batch_id, row.last_key)
    unique = row.unique_count if isinstance(row, Counter) else 0
    return Totals(row.sum, row.event_count, row.max, row.min, row.last, rank, unique)


def counter_total(counter: Counter, aggregation: str) -> Decimal:
    """What the counter bills: its folded total by ``aggregation`` plus approved adjustments."""
    return totals_of(counter).of(aggregation) + Decimal(counter.adjusted)


def slice_totals(
    *,
    tenant_id: int,
    metric_id: int,
    customer_ref: str,
    period_start: datetime,
    aggregation: str,
) -> dict[date, Decimal]:
    """The total per UTC day of a counter that sums or counts; the days add up to its total.

    Approved adjustments count on their own day. Raises ValueError for aggregations whose
    days do not add up.
    """
    if aggregation not in ADDITIVE:
        raise ValueError(f"the days of {aggregation} do not add up")
    series = {
        "tenant_id": tenant_id,
        "metric_id": metric_id,
        "customer_ref": customer_ref,
        "period_start": period_start,
    }
    days: dict[date, Decimal] = {}
    for rollup in DailyRollup.objects.filter(**series):
        days[rollup.day] = totals_of(rollup).of(aggregation)
    adjusted = (
        Adjustment.objects.filter(**series, status__in=COUNTED)
        .values_list("day")
        .annotate(delta=Sum("delta"))
    )
    for day, delta in adjusted:
        days[day] = days.get(day, Decimal(0)) + delta
    return dict(sorted(days.items()))


def metric_named(*, tenant_id: int, name: str) -> Metric | None:
    """The tenant's metric of that name, or None."""
    return Metric.objects.filter(tenant_id=tenant_id, name=name).first()
