"""What a counter's total is made of: batches, and corrections, down to the events."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, LiteralString

from django.db import connection

from counters.models import Adjustment, LateEvent
from counters.selectors.periods import period_of
from counters.selectors.usage import COUNTED
from ledger.models import Event, Metric
from stripemeter.lib.periods import Period

#: A page of batches, after a row of them all: the events are read once for both. What a batch has
#: besides is joined to its sums: joined to each event it would cost as much as reading them.
_BATCHES: LiteralString = """
WITH sums AS MATERIALIZED (
    SELECT e.batch_id, min(e.recorded_at) AS arrived, count(*) AS events, min(e.ts) AS first_ts,
           max(e.ts) AS last_ts, sum(e.quantity) AS sum, max(e.quantity) AS largest,
           min(e.quantity) AS smallest
    FROM ledger_event e
    WHERE e.tenant_id = %(tenant)s AND e.metric_id = %(metric)s AND e.customer_ref = %(customer)s
      AND e.ts >= %(start)s AND e.ts < %(end)s
    GROUP BY e.batch_id
), late AS MATERIALIZED (
    SELECT e.batch_id, count(*) AS events, sum(e.quantity) AS sum
    FROM counters_adjustment a
    JOIN counters_lateevent l ON l.tenant_id = a.tenant_id AND l.adjustment_id = a.id
    JOIN ledger_event e ON e.tenant_id = l.tenant_id AND e.key = l.key
    WHERE a.tenant_id = %(tenant)s AND a.metric_id = %(metric)s AND a.customer_ref = %(customer)s
      AND e.ts >= %(start)s AND e.ts < %(end)s
    GROUP BY e.batch_id
), parts AS MATERIALIZED (
    SELECT s.batch_id, s.arrived, s.events, s.first_ts, s.last_ts,
           s.sum - coalesce(l.sum, 0) AS sum, s.largest, s.smallest, coalesce(l.events, 0) AS late,
           s.events - coalesce(l.events, 0) AS on_time, p.batch_id IS NOT NULL AS pending
    FROM sums s
    LEFT JOIN late l ON l.batch_id = s.batch_id
    LEFT JOIN ledger_pendingbatch p ON p.batch_id = s.batch_id
)
SELECT count(*), NULL::timestamptz, coalesce(sum(events), 0)::bigint, min(first_ts), max(last_ts),
       coalesce(sum(sum), 0), max(largest), min(smallest), coalesce(sum(late), 0)::bigint,
       coalesce(sum(on_time), 0)::bigint, bool_or(pending)
FROM parts
UNION ALL (
    SELECT * FROM parts
    WHERE %(after_at)s::timestamptz IS NULL
       OR (arrived, batch_id) < (%(after_at)s::timestamptz, %(after_batch)s::bigint)
    ORDER BY arrived DESC, batch_id DESC LIMIT %(limit)s
)
ORDER BY 2 DESC NULLS FIRST, 1 DESC
"""


@dataclass(frozen=True, slots=True)
class BatchPart:
    """What one stored batch (or, as a sum, all) brought to a counter.

    ``quantity`` leaves out late events, whose effect is an adjustment.
    """

    batch_id: int
    recorded_at: datetime | None
    events: int
    first_ts: datetime | None
    last_ts: datetime | None
    quantity: Decimal
    largest: Decimal | None
    smallest: Decimal | None
    late: int
    on_time: int
    pending: bool

    def share(self, aggregation: str) -> Decimal | None:
        """The part's own value by the metric's aggregation; None where only events say it."""
        return {
            "sum": self.quantity,
            "count": Decimal(self.on_time),
            "max": self.largest,
            "min": self.smallest,
        }.get(aggregation)


@dataclass(frozen=True, slots=True)
class Series:
    """The events of one metric of one customer in one period."""

    tenant_id: int
    metric: Metric
    customer_ref: str
    period: Period

    def parameters(self) -> dict[str, Any]:
        """For the statements above."""
        return {
            "tenant": self.tenant_id,
            "metric": self.metric.pk,
            "customer": self.customer_ref,
            "start": self.period.start,
            "end": self.period.end,
        }


def batches_of(
    series: Series, *, limit: int, after: tuple[datetime, int] | None = None
) -> tuple[BatchPart, list[BatchPart]]:
    """All batches with events of the series as one (its ``batch_id`` is their number), and a
    page of them, newest arrival first."""
    after_at, after_batch = after or (None, None)
    place: dict[str, Any] = {"after_at": after_at, "after_batch": after_batch, "limit": limit}
    with connection.cursor() as cursor:
        cursor.execute(_BATCHES, series.parameters() | place)
        whole, *page = [BatchPart(*row) for row in cursor.fetchall()]
    return whole, page


def corrections_of(series: Series, *, limit: int) -> list[Adjustment]:
    """Adjustments of the series' counter, late events included, newest first."""
    rows = Adjustment.objects.filter(
        tenant_id=series.tenant_id,
        metric=series.metric,
        customer_ref=series.customer_ref,
        period_start=series.period.start,
    )
    return list(rows.order_by("-created_at", "-id")[:limit])


def is_counted(adjustment: Adjustment) -> bool:
    """Whether its delta is in the total."""
    return adjustment.status in COUNTED


@dataclass(frozen=True, slots=True)
class EventPlace:
    """Where an event counts: in which counter, on which day, or by which adjustment."""

    event: Event
    metric: Metric
    period: Period
    late: LateEvent | None


def place_of(event: Event) -> EventPlace:
    """Where the event counts, or will once its batch is folded."""
    metric = Metric.objects.get(tenant_id=event.tenant_id, pk=event.metric_id)
    period = period_of(tenant_id=event.tenant_id, customer_ref=event.customer_ref, instant=event.ts)
    late = (
        LateEvent.objects.select_related("adjustment")
        .filter(tenant_id=event.tenant_id, key=event.key)
        .first()
    )
    return EventPlace(event, metric, period, late)
