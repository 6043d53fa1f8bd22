"""One look at the ledger for a replay: what its counters must hold, kept aside in day totals.

An apply would else read the events twice: to find what differs, and again under the fold lock to
write it. Here the first look stays in a temporary table with the revision each counter had in
that snapshot. Whatever changes the events of a counter raises its revision, so under the lock an
unchanged revision proves the kept totals; what moved meanwhile is compared and rebuilt anew.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString

from django.db import connection, transaction

from counters.selectors.periods import has_calendars
from counters.services.recompute import (
    KEYS,
    TRUE_ADJUSTED,
    Difference,
    Scope,
    days_of,
    differences,
    events_of,
    key_parameters,
)
from stripemeter.lib.faults import point

#: Of a tenant that is small in a large ledger the planner expects two events and probes for each
#: whether it is late, then sorts. Hashing is right for ten and for ten million.
_PLANNING: LiteralString = """
SET LOCAL work_mem = '64MB'; SET LOCAL enable_nestloop = off; SET LOCAL enable_sort = off
"""
_KEEP: LiteralString = """
CREATE TEMPORARY TABLE replay_days AS
WITH days AS MATERIALIZED ({days})
SELECT d.*, c.revision FROM days d LEFT JOIN counters_counter c
  ON c.tenant_id = %(tenant)s AND c.metric_id = d.metric_id
 AND c.customer_ref = d.customer_ref AND c.period_start = d.period_start
"""
_INDEX: LiteralString = """
CREATE INDEX replay_days_by_counter ON replay_days (metric_id, customer_ref, period_start)
"""
#: Of the given counters, those that are as they were when the days were kept. Where periods may
#: be cut anew, a counter that did not exist proves nothing: its period may be gone.
_UNMOVED: LiteralString = """
SELECT DISTINCT k.metric_id, k.customer_ref, k.period_start
FROM unnest(%(key_metrics)s::int[], %(key_refs)s::text[], %(key_starts)s::timestamptz[])
     AS k(metric_id, customer_ref, period_start)
JOIN replay_days d USING (metric_id, customer_ref, period_start)
LEFT JOIN counters_counter c
  ON c.tenant_id = %(tenant)s AND c.metric_id = k.metric_id
 AND c.customer_ref = k.customer_ref AND c.period_start = k.period_start
WHERE c.revision IS NOT DISTINCT FROM d.revision
  AND (c.revision IS NOT NULL OR NOT %(recuttable)s)
  AND NOT EXISTS (SELECT FROM counters_billingperiod b
      WHERE b.tenant_id = %(tenant)s AND b.customer_ref = k.customer_ref
        AND b.state IN ('frozen', 'sealed') AND b.span @> k.period_start)
"""
_KEPT: LiteralString = """
FROM unnest(%(key_metrics)s::int[], %(key_refs)s::text[], %(key_starts)s::timestamptz[])
     AS k(metric_id, customer_ref, period_start)
JOIN replay_days d USING (metric_id, customer_ref, period_start)
"""
_CLEAR_DAYS: LiteralString = "DELETE FROM counters_dailyrollup x WHERE " + KEYS
_WRITE_DAYS: LiteralString = (
    """
INSERT INTO counters_dailyrollup
    (tenant_id, metric_id, customer_ref, period_start, day, sum, event_count, max, min)
SELECT %(tenant)s, d.metric_id, d.customer_ref, d.period_start, d.day, d.sum, d.event_count,
       d.max, d.min
"""
    + _KEPT
    + " ORDER BY 2, 3, 4, 5"
)
_WRITE_COUNTERS: LiteralString = (
    """
INSERT INTO counters_counter AS c
    (tenant_id, metric_id, customer_ref, period_start, period_end, sum, event_count, max, min,
     watermark, folded_at, unique_count, adjusted, revision)
SELECT %(tenant)s, d.metric_id, d.customer_ref, d.period_start, min(d.period_end), sum(d.sum),
       sum(d.event_count), max(d.max), min(d.min), max(d.watermark), max(d.folded_at), 0, 0, 1
"""
    + _KEPT
    + """
GROUP BY 2, 3, 4 ORDER BY 2, 3, 4
ON CONFLICT (tenant_id, metric_id, customer_ref, period_start) DO UPDATE SET
    sum = excluded.sum, event_count = excluded.event_count, max = excluded.max,
    min = excluded.min, last = NULL, last_ts = NULL, last_batch_id = NULL, last_key = NULL,
    unique_count = 0, watermark = greatest(c.watermark, excluded.watermark),
    folded_at = greatest(c.folded_at, excluded.folded_at), revision = c.revision + 1
"""
)

Key = tuple[Any, ...]


def key_of(row: Difference) -> Key:
    """What names a counter within its tenant."""
    return row.metric_id, row.customer_ref, row.period_start


@contextmanager
def kept(scope: Scope) -> Iterator[list[Difference]]:
    """Keep the scope's day totals while the block runs; yields the counters that differ.

    One statement reads events and revisions: they are of one snapshot. A counter that moved
    before it was compared counts as differing; it is looked at again under the lock.
    """
    source, parameters = events_of(scope)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_PLANNING)
        cursor.execute("DROP TABLE IF EXISTS pg_temp.replay_days")
        cursor.execute(_KEEP.format(days=days_of(source)), parameters)
        cursor.execute(_INDEX)
    yield differences(scope, limit=None, days="SELECT * FROM replay_days")
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE pg_temp.replay_days")


def write_unmoved(tenant_id: int, found: Sequence[Difference]) -> set[Key]:
    """Overwrite those of ``found`` whose kept totals still hold; their keys.

    For counters of metrics whose days say everything: not for ``last`` and ``unique``. The caller
    holds the fold lock.
    """
    parameters = key_parameters(tenant_id, found) | {"recuttable": has_calendars(tenant_id)}
    with connection.cursor() as cursor:
        cursor.execute(_UNMOVED, parameters)
        unmoved = set(cursor.fetchall())
        rows = [row for row in found if key_of(row) in unmoved]
        if not rows:
            return set()
        parameters = key_parameters(tenant_id, rows)
        cursor.execute(_CLEAR_DAYS, parameters)
        point("rebuild.cleared")
        cursor.execute(_WRITE_DAYS, parameters)
        cursor.execute(_WRITE_COUNTERS, parameters)
        adrift = [row for row in rows if row.counter_adjusted != row.adjustments]
        if adrift:
            cursor.execute(TRUE_ADJUSTED, key_parameters(tenant_id, adrift))
    return unmoved
