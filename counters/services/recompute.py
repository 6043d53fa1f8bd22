"""Rebuilds counters from the ledger: the proof that they are projections.

``recompute == fold``, bit for bit: both are composed of the fragments in `aggregate_sql`.
An overwrite holds the fold lock of the tenant; without it a fold that commits between snapshot
and update would be lost.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, LiteralString

from django.db import connection, transaction

from counters import aggregate_sql, locks
from counters.services.fold import special_metrics

#: Events that counters must hold: of the scope, not pending, and not late.
_LEDGER: LiteralString = """
SELECT e.*, date_trunc('month', e.ts) AS period_start,
       date_trunc('month', e.ts) + interval '1 month' AS period_end, e.ts::date AS day
FROM ledger_event e
WHERE e.tenant_id = %(tenant)s AND e.metric_id = ANY(%(metrics)s)
  AND (%(customers)s::text[] IS NULL OR e.customer_ref = ANY(%(customers)s))
  AND e.ts >= %(start)s AND e.ts < %(end)s
  AND NOT EXISTS (SELECT FROM ledger_pendingbatch p WHERE p.batch_id = e.batch_id)
  AND NOT EXISTS (SELECT FROM counters_lateevent l
                  WHERE l.tenant_id = e.tenant_id AND l.key = e.key)
"""
_SCOPE: LiteralString = """
tenant_id = %(tenant)s AND metric_id = ANY(%(metrics)s)
AND (%(customers)s::text[] IS NULL OR customer_ref = ANY(%(customers)s))
AND period_start >= %(start)s AND period_start < %(end)s
"""
_RESET: LiteralString = (
    """
UPDATE counters_counter SET sum = 0, event_count = 0, max = NULL, min = NULL, last = NULL,
    last_ts = NULL, last_batch_id = NULL, last_key = NULL, unique_count = 0
WHERE """
    + _SCOPE
)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which counters: a tenant's metrics, some or all customers, whole periods in a range.

    ``start`` and ``end`` must be period bounds: a counter is recomputed whole or not at all.
    """

    tenant_id: int
    metric_ids: tuple[int, ...]
    start: datetime
    end: datetime
    customers: tuple[str, ...] | None = None

    def parameters(self) -> dict[str, Any]:
        """The scope as bound parameters."""
        return {
            "tenant": self.tenant_id,
            "metrics": list(self.metric_ids),
            "customers": None if self.customers is None else list(self.customers),
            "start": self.start,
            "end": self.end,
        }


@transaction.atomic
def recompute(scope: Scope) -> None:
    """Overwrite the scope's counters, rollups and members with what the ledger says.

    Adjustments and watermarks stay; the revision grows, so pushes look again.
    """
    locks.fold_lock(scope.tenant_id)
    parameters = scope.parameters()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM counters_dailyrollup WHERE " + _SCOPE, parameters)
        cursor.execute("DELETE FROM counters_uniquemember WHERE " + _SCOPE, parameters)
        cursor.execute(_RESET, parameters)
        everything = {**parameters, **special_metrics([scope.tenant_id])}
        cursor.execute(aggregate_sql.TOTALS.format(source=_LEDGER), everything)
        cursor.execute(aggregate_sql.LAST.format(source=_LEDGER), everything)
        cursor.execute(aggregate_sql.UNIQUE.format(source=_LEDGER), everything)


@dataclass(frozen=True, slots=True)
class Difference:
    """A counter that disagrees with the ledger."""

    metric_id: int
    customer_ref: str
    period_start: datetime
    counter_sum: Decimal
    ledger_sum: Decimal
    counter_events: int
    ledger_events: int


_DIFFERENCES: LiteralString = (
    """
WITH ledger AS (
    SELECT metric_id, customer_ref, period_start, sum(quantity) AS sum, count(*) AS event_count,
           max(quantity) AS max, min(quantity) AS min
    FROM ("""
    + _LEDGER
    + """) s GROUP BY 1, 2, 3
), counter AS (SELECT * FROM counters_counter WHERE """
    + _SCOPE
    + """)
SELECT metric_id, customer_ref, period_start, coalesce(c.sum, 0), coalesce(l.sum, 0),
       coalesce(c.event_count, 0), coalesce(l.event_count, 0)
FROM counter c FULL JOIN ledger l USING (metric_id, customer_ref, period_start)
WHERE (coalesce(c.sum, 0), coalesce(c.event_count, 0), c.max, c.min)
      IS DISTINCT FROM (coalesce(l.sum, 0), coalesce(l.event_count, 0), l.max, l.min)
ORDER BY 1, 2, 3 LIMIT 1000
"""
)


def differences(scope: Scope) -> list[Difference]:
    """Counters of the scope that disagree with the ledger, at most 1,000; one snapshot."""
    with connection.cursor() as cursor:
        cursor.execute(_DIFFERENCES, scope.parameters())
        return [Difference(*row) for row in cursor.fetchall()]
