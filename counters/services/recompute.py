"""Rebuilds counters from the ledger: the proof that they are projections.

``recompute == fold``, bit for bit: both are composed of the fragments in `aggregate_sql`.
An overwrite holds the fold lock of the tenant; without it a fold that commits between snapshot
and update would be lost. Counters of frozen periods are compared and never overwritten.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, LiteralString

from django.db import connection, transaction

from counters import aggregate_sql, locks
from counters.calendars import LONGEST_PERIOD
from counters.selectors.periods import cuts_of, has_calendars, has_frozen
from counters.services.fold import add_events, special_metrics
from counters.totals import Totals
from stripemeter.lib.faults import point
from stripemeter.lib.periods import Period, utc_month

MICROSECOND = timedelta(microseconds=1)
#: Events that counters must hold: of the scope, not pending, and not late.
#: Few batches are ever pending, and statistics of a queue say nothing: NOT IN hashes them once,
#: where NOT EXISTS may be planned as an index probe for each event.
_COUNTED: LiteralString = """
  AND e.batch_id NOT IN (SELECT p.batch_id FROM ledger_pendingbatch p
                         WHERE p.tenant_id = %(tenant)s)
  AND NOT EXISTS (SELECT FROM counters_lateevent l
                  WHERE l.tenant_id = e.tenant_id AND l.key = e.key)
"""
_OF_SCOPE: LiteralString = (
    """
WHERE e.tenant_id = %(tenant)s AND e.metric_id = ANY(%(metrics)s)
  AND (%(customers)s::text[] IS NULL OR e.customer_ref = ANY(%(customers)s))
  AND e.ts >= %(since)s AND e.ts < %(until)s
"""
    + _COUNTED
)
_IN_MONTHS: LiteralString = (
    """
SELECT e.*, date_trunc('month', e.ts) AS period_start,
       date_trunc('month', e.ts) + interval '1 month' AS period_end, e.ts::date AS day
FROM ledger_event e
"""
    + _OF_SCOPE
)
_IN_PERIODS: LiteralString = (
    """
SELECT e.*, p.period_start, p.period_end, e.ts::date AS day
FROM ledger_event e
JOIN unnest(%(refs)s::text[], %(starts)s::timestamptz[], %(ends)s::timestamptz[])
     AS p(customer_ref, period_start, period_end)
  ON p.customer_ref = e.customer_ref AND e.ts >= p.period_start AND e.ts < p.period_end
"""
    + _OF_SCOPE
)
_OF_KEYS: LiteralString = (
    """
SELECT e.*, k.period_start, k.period_end, e.ts::date AS day
FROM unnest(%(key_metrics)s::int[], %(key_refs)s::text[], %(key_starts)s::timestamptz[],
            %(key_ends)s::timestamptz[]) AS k(metric_id, customer_ref, period_start, period_end)
JOIN ledger_event e ON e.tenant_id = %(tenant)s AND e.metric_id = k.metric_id
 AND e.customer_ref = k.customer_ref AND e.ts >= k.period_start AND e.ts < k.period_end
WHERE true
"""
    + _COUNTED
)
#: Leaves frozen periods out of an overwrite.
_THAWED: LiteralString = """
SELECT * FROM ({source}) thawed WHERE NOT EXISTS (
    SELECT FROM counters_billingperiod b
    WHERE b.tenant_id = thawed.tenant_id AND b.customer_ref = thawed.customer_ref
      AND b.state IN ('frozen', 'sealed') AND b.span @> thawed.period_start)
"""
_SCOPE: LiteralString = """
tenant_id = %(tenant)s AND metric_id = ANY(%(metrics)s)
AND (%(customers)s::text[] IS NULL OR customer_ref = ANY(%(customers)s))
AND period_start >= %(start)s AND period_start < %(end)s
"""
_SCOPE_THAWED: LiteralString = (
    _SCOPE
    + """
AND NOT EXISTS (SELECT FROM counters_billingperiod b
    WHERE b.tenant_id = x.tenant_id AND b.customer_ref = x.customer_ref
      AND b.state IN ('frozen', 'sealed') AND b.span @> x.period_start)
"""
)
KEYS: LiteralString = """
x.tenant_id = %(tenant)s AND (x.metric_id, x.customer_ref, x.period_start) IN (
    SELECT * FROM unnest(%(key_metrics)s::int[], %(key_refs)s::text[],
                         %(key_starts)s::timestamptz[]))
"""
_RESET: LiteralString = """
UPDATE counters_counter x SET sum = 0, event_count = 0, max = NULL, min = NULL, last = NULL,
    last_ts = NULL, last_batch_id = NULL, last_key = NULL, unique_count = 0,
    revision = revision + 1
WHERE """
#: A plan made for any scope reads the whole tenant for one of a few customers. Day totals of a
#: large scope fit in memory, or nearly.
_PLANNING: LiteralString = """
SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL work_mem = '64MB'
"""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which counters: a tenant's metrics, some or all customers, periods that start in a range.

    A counter is recomputed whole or not at all: a period belongs to the scope if
    ``start <= period_start < end``, with all of its events.
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


def events_of(scope: Scope) -> tuple[LiteralString, dict[str, Any]]:
    """The scope's events with their periods and UTC days: SQL and its parameters."""
    parameters = scope.parameters()
    if not has_calendars(scope.tenant_id):
        first, last = utc_month(scope.start), utc_month(scope.end)
        parameters["since"] = first.start if first.start == scope.start else first.end
        parameters["until"] = last.start if last.start == scope.end else last.end
        return _IN_MONTHS, parameters
    parameters |= {"since": scope.start, "until": scope.end + LONGEST_PERIOD}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT e.customer_ref, min(e.ts), max(e.ts) FROM ledger_event e "
            + _OF_SCOPE
            + " GROUP BY 1",
            parameters,
        )
        spans = cursor.fetchall()
    cuts = cuts_of(tenant_id=scope.tenant_id, customers={row[0] for row in spans})
    found: list[tuple[str, Period]] = []
    for ref, first_ts, last_ts in spans:
        for period in cuts[ref].periods(first_ts, last_ts + MICROSECOND):
            if period.start >= scope.end:
                break
            if period.start >= scope.start:
                found.append((ref, period))
    parameters |= {
        "refs": [ref for ref, _ in found],
        "starts": [period.start for _, period in found],
        "ends": [period.end for _, period in found],
    }
    return _IN_PERIODS, parameters


@transaction.atomic
def recompute(scope: Scope) -> None:
    """Overwrite the scope's counters, rollups and members with what the ledger says.

    Adjustments and watermarks stay; the revision grows, so pushes look again. Frozen periods
    are left alone.
    """
    locks.fold_lock(scope.tenant_id)
    with connection.cursor() as cursor:
        cursor.execute(_PLANNING)
    source, parameters = events_of(scope)
    _clear(_SCOPE_THAWED, parameters)
    point("recompute.cleared")
    special = special_metrics([scope.tenant_id])
    in_months = source is _IN_MONTHS
    if has_frozen(scope.tenant_id):
        source = _THAWED.format(source=source)
    add_events(source, parameters, special, in_months=in_months, cleared=True)
    point("recompute.before_commit")


def _clear(where: LiteralString, parameters: dict[str, Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM counters_dailyrollup x WHERE " + where, parameters)
        cursor.execute("DELETE FROM counters_uniquemember x WHERE " + where, parameters)
        cursor.execute(_RESET + where, parameters)


@dataclass(frozen=True, slots=True)
class Difference:
    """A counter that disagrees with the ledger, its rollups or its adjustments."""

    metric_id: int
    customer_ref: str
    period_start: datetime
    period_end: datetime
    #: True if the period is frozen: such a counter is reported and never overwritten.
    frozen: bool
    counter: Totals
    ledger: Totals
    #: What the counter holds as the effect of adjustments, and what the adjustments say.
    counter_adjusted: Decimal
    adjustments: Decimal

    @property
    def counter_sum(self) -> Decimal:
        """Sum of quantities in the counter."""
        return self.counter.sum

    @property
    def ledger_sum(self) -> Decimal:
        """Sum of quantities in the ledger."""
        return self.ledger.sum

    @property
    def counter_events(self) -> int:
        """Events in the counter."""
        return self.counter.event_count

    @property
    def ledger_events(self) -> int:
        """Events in the ledger."""
        return self.ledger.event_count


_NEWEST: LiteralString = """
SELECT DISTINCT ON (s.metric_id, s.customer_ref, s.period_start)
       s.metric_id, s.customer_ref, s.period_start, s.quantity AS last, s.ts AS last_ts,
       s.batch_id AS last_batch_id, s.key AS last_key
FROM ({source}) s WHERE s.metric_id = ANY(%(last_metrics)s)
ORDER BY s.metric_id, s.customer_ref, s.period_start, s.ts DESC, s.batch_id DESC, s.key DESC
"""
_NO_NEWEST: LiteralString = """
SELECT NULL::int AS metric_id, NULL::text AS customer_ref, NULL::timestamptz AS period_start,
       NULL::numeric AS last, NULL::timestamptz AS last_ts, NULL::bigint AS last_batch_id,
       NULL::uuid AS last_key WHERE false
"""
_MEMBERS: LiteralString = (
    """
SELECT s.metric_id, s.customer_ref, s.period_start, count(DISTINCT """
    + aggregate_sql.MEMBER
    + """) AS unique_count
FROM ({source}) s JOIN ledger_metric m ON m.id = s.metric_id
WHERE s.metric_id = ANY(%(unique_metrics)s) GROUP BY 1, 2, 3
"""
)
_NO_MEMBERS: LiteralString = """
SELECT NULL::int AS metric_id, NULL::text AS customer_ref, NULL::timestamptz AS period_start,
       NULL::bigint AS unique_count WHERE false
"""
_DIFFERENCES: LiteralString = (
    """
WITH days AS MATERIALIZED ({days}), totals AS (
    SELECT metric_id, customer_ref, period_start, min(period_end) AS period_end,
           sum(sum) AS sum, sum(event_count)::bigint AS event_count, max(max) AS max,
           min(min) AS min
    FROM days GROUP BY 1, 2, 3
), ledger AS (
    SELECT * FROM totals LEFT JOIN ({newest}) n USING (metric_id, customer_ref, period_start)
    LEFT JOIN ({members}) u USING (metric_id, customer_ref, period_start)
), counter AS (SELECT * FROM counters_counter WHERE """
    + _SCOPE
    + """
), rolled AS (
    SELECT metric_id, customer_ref, period_start, sum(sum) AS sum, sum(event_count) AS event_count,
           max(max) AS max, min(min) AS min
    FROM counters_dailyrollup WHERE """
    + _SCOPE
    + """ GROUP BY 1, 2, 3
), adjusted AS (
    SELECT metric_id, customer_ref, period_start, sum(delta) AS delta FROM counters_adjustment
    WHERE status IN ('approved', 'reverted') AND """
    + _SCOPE
    + """ GROUP BY 1, 2, 3
)
SELECT metric_id, customer_ref, period_start, coalesce(l.period_end, c.period_end,
           period_start + interval '1 month'),
       EXISTS (SELECT FROM counters_billingperiod b WHERE b.tenant_id = %(tenant)s
               AND b.customer_ref = coalesce(c.customer_ref, l.customer_ref, a.customer_ref)
               AND b.state IN ('frozen', 'sealed')
               AND b.span @> coalesce(c.period_start, l.period_start, a.period_start)),
       coalesce(c.sum, 0), coalesce(c.event_count, 0), c.max, c.min, c.last, c.last_ts,
       c.last_batch_id, c.last_key, coalesce(c.unique_count, 0),
       coalesce(l.sum, 0), coalesce(l.event_count, 0), l.max, l.min, l.last, l.last_ts,
       l.last_batch_id, l.last_key, coalesce(l.unique_count, 0),
       coalesce(c.adjusted, 0), coalesce(a.delta, 0)
FROM counter c FULL JOIN ledger l USING (metric_id, customer_ref, period_start)
FULL JOIN rolled r USING (metric_id, customer_ref, period_start)
FULL JOIN adjusted a USING (metric_id, customer_ref, period_start)
WHERE (coalesce(c.sum, 0), coalesce(c.event_count, 0), c.max, c.min, c.last, c.last_ts,
       c.last_batch_id, c.last_key, coalesce(c.unique_count, 0), coalesce(c.adjusted, 0))
      IS DISTINCT FROM
      (coalesce(l.sum, 0), coalesce(l.event_count, 0), l.max, l.min, l.last, l.last_ts,
       l.last_batch_id, l.last_key, coalesce(l.unique_count, 0), coalesce(a.delta, 0))
   OR (coalesce(r.sum, 0), coalesce(r.event_count, 0), r.max, r.min)
      IS DISTINCT FROM (coalesce(l.sum, 0), coalesce(l.event_count, 0), l.max, l.min)
ORDER BY 1, 2, 3
"""
)
DIFFERENCES_MAX = 1_000


def days_of(source: LiteralString) -> LiteralString:
    """Day totals of the events that ``source`` (of `events_of`) selects."""
    days = aggregate_sql.DAYS_IN_MONTHS if source is _IN_MONTHS else aggregate_sql.DAYS
    return days.format(source=source)


def differences(
    scope: Scope, *, limit: int | None = DIFFERENCES_MAX, days: LiteralString | None = None
) -> list[Difference]:
    """Counters of the scope that disagree with the ledger, by key; one snapshot, no lock.

    A counter also disagrees if its rollups do not add up to it, or if it holds another effect of
    adjustments than the adjustments themselves. At most ``limit``. ``days``: SQL of day totals
    that were kept before (`snapshot.kept`).
    """
    source, parameters = events_of(scope)
    special = special_metrics([scope.tenant_id])
    has_last = bool(set(special["last_metrics"]) & set(scope.metric_ids))
    has_unique = bool(set(special["unique_metrics"]) & set(scope.metric_ids))
    statement = _DIFFERENCES.format(
        days=days or days_of(source),
        newest=_NEWEST.format(source=source) if has_last else _NO_NEWEST,
        members=_MEMBERS.format(source=source) if has_unique else _NO_MEMBERS,
    )
    if limit is not None:
        statement += f" LIMIT {int(limit)}"
    with connection.cursor() as cursor:
        cursor.execute(statement, {**parameters, **special})
        return [_difference(row) for row in cursor.fetchall()]


def _totals(columns: Sequence[Any]) -> Totals:
    total, count, high, low, last, last_ts, batch, key, unique = columns
    rank = None if last is None else (last_ts, batch, key)
    return Totals(total, count, high, low, last, rank, unique)


def _difference(row: Sequence[Any]) -> Difference:
    metric_id, customer_ref, start, end, frozen = row[:5]
    counter, ledger = _totals(row[5:14]), _totals(row[14:23])
    return Difference(
        metric_id, customer_ref, start, end, frozen, counter, ledger, row[23], row[24]
    )


TRUE_ADJUSTED: LiteralString = (
    """
UPDATE counters_counter x SET adjusted = coalesce((
    SELECT sum(a.delta) FROM counters_adjustment a
    WHERE a.tenant_id = x.tenant_id AND a.metric_id = x.metric_id
      AND a.customer_ref = x.customer_ref AND a.period_start = x.period_start
      AND a.status IN ('approved', 'reverted')), 0)
WHERE """
    + KEYS
)


def key_parameters(tenant_id: int, keys: Sequence[Difference]) -> dict[str, Any]:
    """The counters of ``keys`` as bound arrays."""
    return {
        "tenant": tenant_id,
        "key_metrics": [key.metric_id for key in keys],
        "key_refs": [key.customer_ref for key in keys],
        "key_starts": [key.period_start for key in keys],
        "key_ends": [key.period_end for key in keys],
    }


def rebuild(tenant_id: int, found: Sequence[Difference]) -> int:
    """Overwrite exactly the counters in ``found`` from the ledger; how many were.

    Those of frozen periods are left alone. The caller holds the fold lock and read ``found``
    after it took it.
    """
    keys = [difference for difference in found if not difference.frozen]
    if not keys:
        return 0
    parameters = key_parameters(tenant_id, keys)
    _clear(KEYS, parameters)
    point("rebuild.cleared")
    add_events(_OF_KEYS, parameters, special_metrics([tenant_id]), cleared=True)
    with connection.cursor() as cursor:
        cursor.execute(TRUE_ADJUSTED, parameters)
    return len(keys)
