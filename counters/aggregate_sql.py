"""The SQL that turns events into counters and rollups.

Fold and recompute are composed of the same fragments, so that they cannot drift apart. Every
fragment reads a relation ``source`` of events with their ``period_start``, ``period_end`` and UTC
``day``, and writes rows in primary key order, so that two writers cannot deadlock.
"""

from typing import LiteralString

#: Events of claimed batches, in UTC calendar months (the session's time zone is UTC).
CLAIMED_IN_MONTHS: LiteralString = """
SELECT e.*, date_trunc('month', e.ts) AS period_start,
       date_trunc('month', e.ts) + interval '1 month' AS period_end, e.ts::date AS day
FROM ledger_event e WHERE e.batch_id = ANY(%(batches)s)
"""

#: Events of claimed batches of a tenant whose customers have calendars: periods come as arrays.
CLAIMED_IN_PERIODS: LiteralString = """
SELECT e.*, p.period_start, p.period_end, e.ts::date AS day
FROM ledger_event e
JOIN unnest(%(customers)s::text[], %(starts)s::timestamptz[], %(ends)s::timestamptz[])
     AS p(customer_ref, period_start, period_end)
  ON p.customer_ref = e.customer_ref AND e.ts >= p.period_start AND e.ts < p.period_end
WHERE e.batch_id = ANY(%(batches)s)
"""

#: Leaves out events whose effect is an adjustment (`LateEvent`).
NOT_LATE: LiteralString = """
SELECT * FROM ({source}) kept WHERE NOT EXISTS (
    SELECT FROM counters_lateevent l WHERE l.tenant_id = kept.tenant_id AND l.key = kept.key)
"""

#: Whether the event ``s`` comes too late to be folded into its open counter ``c``: it adds up, the
#: counter has events, and the event is older than the counter's watermark less the window.
TOO_LATE: LiteralString = """
(m.aggregation IN ('sum', 'count') AND c.event_count > 0 AND s.ts < c.watermark
    - make_interval(hours => coalesce(m.lateness_window_hours, t.lateness_window_hours)))
"""

#: Whether the stored and not yet folded event ``s`` will be held for an operator: it is not usage.
HELD: LiteralString = (
    """
((t.late_policy = 'review' AND coalesce("""
    + TOO_LATE
    + """, false)) OR EXISTS (
    SELECT FROM counters_billingperiod b
    WHERE b.tenant_id = s.tenant_id AND b.customer_ref = s.customer_ref
      AND b.state IN ('frozen', 'sealed') AND b.span @> s.ts))
"""
)
#: Stored and not yet folded events ``s``, from the outbox ``p``. The fence keeps a plan that was
#: made for any customer from reading all events of the largest one.
PENDING: LiteralString = """ledger_pendingbatch p
CROSS JOIN LATERAL (SELECT * FROM ledger_event e WHERE e.batch_id = p.batch_id OFFSET 0) s
"""
#: Keys of those of the tenant's pending events.
HELD_KEYS: LiteralString = (
    "SELECT s.key FROM "
    + PENDING
    + """
JOIN ledger_metric m ON m.id = s.metric_id
JOIN tenancy_tenant t ON t.id = s.tenant_id
LEFT JOIN counters_counter c
  ON c.tenant_id = s.tenant_id AND c.metric_id = s.metric_id AND c.customer_ref = s.customer_ref
 AND s.ts >= c.period_start AND s.ts < c.period_end
WHERE p.tenant_id = %(tenant)s AND """
    + HELD
)

#: Turns the late events of a source into one adjustment per (batch, metric, customer,
#: period, UTC day) and marks each of them, so that it is in no counter. In a frozen period that
#: is every event; its delta is what the total would have grown by.
SET_ASIDE: LiteralString = (
    """
WITH source AS ({source}), late AS MATERIALIZED (
    SELECT s.tenant_id, s.key, s.batch_id, s.metric_id, s.customer_ref, s.period_start, s.day,
           s.quantity, s.ts, m.aggregation, c.max, c.min, c.last, c.last_ts,
           b.id IS NOT NULL AS frozen,
           b.id IS NULL AND t.late_policy = 'auto' AS approved
    FROM source s
    JOIN ledger_metric m ON m.id = s.metric_id
    JOIN tenancy_tenant t ON t.id = s.tenant_id
    LEFT JOIN counters_counter c
      ON c.tenant_id = s.tenant_id AND c.metric_id = s.metric_id
     AND c.customer_ref = s.customer_ref AND c.period_start = s.period_start
    LEFT JOIN counters_billingperiod b
      ON b.tenant_id = s.tenant_id AND b.customer_ref = s.customer_ref AND b.span @> s.ts
     AND b.state IN ('frozen', 'sealed')
    WHERE b.id IS NOT NULL OR """
    + TOO_LATE
    + """
), slices AS MATERIALIZED (
    SELECT gen_random_uuid() AS id, tenant_id, batch_id, metric_id, customer_ref, period_start,
           day, bool_or(frozen) AS frozen, bool_and(approved) AS approved,
           CASE aggregation
               WHEN 'sum' THEN sum(quantity)
               WHEN 'count' THEN count(*)
               WHEN 'max' THEN greatest(max(quantity) - coalesce(max(max), 0), 0)
               WHEN 'min' THEN least(min(quantity) - coalesce(min(min), 0), 0)
               WHEN 'last' THEN CASE WHEN max(ts) >= coalesce(max(last_ts), '-infinity')
                   THEN (array_agg(quantity ORDER BY ts DESC, key DESC))[1] - coalesce(max(last), 0)
                   ELSE 0 END
               ELSE 0 END AS delta
    FROM late GROUP BY 2, 3, 4, 5, 6, 7, aggregation
), marked AS (
    INSERT INTO counters_lateevent (tenant_id, key, batch_id, adjustment_id)
    SELECT l.tenant_id, l.key, l.batch_id, s.id
    FROM late l
    JOIN slices s USING (tenant_id, batch_id, metric_id, customer_ref, period_start, day)
), noted AS (
    INSERT INTO counters_adjustment
        (id, tenant_id, metric_id, customer_ref, period_start, day, delta, reason, note, status,
         actor, batch_id, created_at, approved_at, approved_by, rejected_by, reverted_by)
    SELECT id, tenant_id, metric_id, customer_ref, period_start, day, delta, 'late_event',
           CASE WHEN frozen THEN 'arrived after the period was frozen' ELSE '' END,
           CASE WHEN approved THEN 'approved' ELSE 'pending' END, 'system:fold', batch_id,
           %(now)s, CASE WHEN approved THEN %(now)s::timestamptz END,
           CASE WHEN approved THEN 'system:late_policy' ELSE '' END, '', ''
    FROM slices
    RETURNING tenant_id, metric_id, customer_ref, period_start, delta, status
)
UPDATE counters_counter c SET adjusted = c.adjusted + n.delta, revision = c.revision + 1
FROM (SELECT tenant_id, metric_id, customer_ref, period_start, sum(delta) AS delta
      FROM noted WHERE status = 'approved' GROUP BY 1, 2, 3, 4) n
WHERE c.tenant_id = n.tenant_id AND c.metric_id = n.metric_id
  AND c.customer_ref = n.customer_ref AND c.period_start = n.period_start
"""
)

#: Day totals of a source. Casting each event's time to a date costs more than adding it up: so days
#: are integer arithmetic, and only their sums get a date.
DAYS: LiteralString = """
SELECT tenant_id, metric_id, customer_ref, period_start, at::date AS day, period_end, sum,
       event_count, max, min, watermark, folded_at
FROM (
    SELECT tenant_id, metric_id, customer_ref, period_start,
           date_bin('1 day', ts, timestamptz '2000-01-01 00:00:00+00') AS at,
           min(period_end) AS period_end, sum(quantity) AS sum, count(*) AS event_count,
           max(quantity) AS max, min(quantity) AS min, max(ts) AS watermark,
           max(recorded_at) AS folded_at
    FROM ({source}) s GROUP BY 1, 2, 3, 4, 5
) by_day
"""
#: The same of a source whose periods are UTC months: the days say which. (Columns of a source that
#: nothing reads are never computed.)
DAYS_IN_MONTHS: LiteralString = """
SELECT tenant_id, metric_id, customer_ref, date_trunc('month', at) AS period_start,
       at::date AS day, date_trunc('month', at) + interval '1 month' AS period_end, sum,
       event_count, max, min, watermark, folded_at
FROM (
    SELECT tenant_id, metric_id, customer_ref,
           date_bin('1 day', ts, timestamptz '2000-01-01 00:00:00+00') AS at,
           sum(quantity) AS sum, count(*) AS event_count,
           max(quantity) AS max, min(quantity) AS min, max(ts) AS watermark,
           max(recorded_at) AS folded_at
    FROM ({source}) s GROUP BY 1, 2, 3, 4
) by_day
"""

#: How day totals meet those that are there. Where there are none (they were just cleared), a row
#: costs half without it.
MERGE_DAYS: LiteralString = """
    ON CONFLICT (tenant_id, metric_id, customer_ref, period_start, day) DO UPDATE SET
        sum = r.sum + excluded.sum, event_count = r.event_count + excluded.event_count,
        max = greatest(r.max, excluded.max), min = least(r.min, excluded.min)
"""

#: Sum, count, max and min of every metric: one pass over the events, two upserts.
TOTALS: LiteralString = """
WITH days AS MATERIALIZED ({days}), rolled AS (
    INSERT INTO counters_dailyrollup AS r
        (tenant_id, metric_id, customer_ref, period_start, day, sum, event_count, max, min)
    SELECT tenant_id, metric_id, customer_ref, period_start, day, sum, event_count, max, min
    FROM days ORDER BY 1, 2, 3, 4, 5 {merge}
)
INSERT INTO counters_counter AS c
    (tenant_id, metric_id, customer_ref, period_start, period_end, sum, event_count, max, min,
     watermark, folded_at, unique_count, adjusted, revision)
SELECT tenant_id, metric_id, customer_ref, period_start, min(period_end), sum(sum),
       sum(event_count), max(max), min(min), max(watermark), max(folded_at), 0, 0, 1
FROM days GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
ON CONFLICT (tenant_id, metric_id, customer_ref, period_start) DO UPDATE SET
    sum = c.sum + excluded.sum, event_count = c.event_count + excluded.event_count,
    max = greatest(c.max, excluded.max), min = least(c.min, excluded.min),
    watermark = greatest(c.watermark, excluded.watermark),
    folded_at = greatest(c.folded_at, excluded.folded_at), revision = c.revision + 1
"""

#: The newest event of each day, for metrics whose aggregation is last.
LAST: LiteralString = """
WITH source AS ({source}), newest AS MATERIALIZED (
    SELECT DISTINCT ON (tenant_id, metric_id, customer_ref, period_start, day)
           tenant_id, metric_id, customer_ref, period_start, period_end, day,
           quantity, ts, batch_id, key
    FROM source WHERE metric_id = ANY(%(last_metrics)s)
    ORDER BY tenant_id, metric_id, customer_ref, period_start, day,
             ts DESC, batch_id DESC, key DESC
), rolled AS (
    INSERT INTO counters_dailyrollup AS r
        (tenant_id, metric_id, customer_ref, period_start, day, sum, event_count,
         last, last_ts, last_batch_id, last_key)
    SELECT tenant_id, metric_id, customer_ref, period_start, day, 0, 0,
           quantity, ts, batch_id, key
    FROM newest ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT (tenant_id, metric_id, customer_ref, period_start, day) DO UPDATE SET
        last = excluded.last, last_ts = excluded.last_ts,
        last_batch_id = excluded.last_batch_id, last_key = excluded.last_key
    WHERE r.last_ts IS NULL OR (excluded.last_ts, excluded.last_batch_id, excluded.last_key)
        > (r.last_ts, r.last_batch_id, r.last_key)
)
INSERT INTO counters_counter AS c
    (tenant_id, metric_id, customer_ref, period_start, period_end, sum, event_count,
     last, last_ts, last_batch_id, last_key, unique_count, adjusted, revision)
SELECT DISTINCT ON (tenant_id, metric_id, customer_ref, period_start)
       tenant_id, metric_id, customer_ref, period_start, period_end, 0, 0,
       quantity, ts, batch_id, key, 0, 0, 1
FROM newest
ORDER BY tenant_id, metric_id, customer_ref, period_start, ts DESC, batch_id DESC, key DESC
ON CONFLICT (tenant_id, metric_id, customer_ref, period_start) DO UPDATE SET
    last = excluded.last, last_ts = excluded.last_ts,
    last_batch_id = excluded.last_batch_id, last_key = excluded.last_key
WHERE c.last_ts IS NULL OR (excluded.last_ts, excluded.last_batch_id, excluded.last_key)
    > (c.last_ts, c.last_batch_id, c.last_key)
"""

#: 128 bits of SHA-256 over the member's text; null where the event lacks the field.
MEMBER: LiteralString = """
encode(substring(sha256(convert_to(
    CASE WHEN m.unique_field = 'resourceId' THEN s.resource_id
         ELSE s.meta ->> substring(m.unique_field from 6) END, 'UTF8')) for 16), 'hex')::uuid
"""

#: Members not seen before in the period, for metrics that count uniques. Runs after `TOTALS` over
#: the same source, so the counters are there.
UNIQUE: LiteralString = (
    """
WITH source AS ({source}), members AS (
    SELECT DISTINCT s.tenant_id, s.metric_id, s.customer_ref, s.period_start,
           """
    + MEMBER
    + """ AS member
    FROM source s JOIN ledger_metric m ON m.id = s.metric_id
    WHERE s.metric_id = ANY(%(unique_metrics)s)
), fresh AS (
    INSERT INTO counters_uniquemember (tenant_id, metric_id, customer_ref, period_start, member)
    SELECT tenant_id, metric_id, customer_ref, period_start, member
    FROM members WHERE member IS NOT NULL ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT DO NOTHING
    RETURNING tenant_id, metric_id, customer_ref, period_start
)
UPDATE counters_counter c SET unique_count = c.unique_count + f.members
FROM (SELECT tenant_id, metric_id, customer_ref, period_start, count(*) AS members
      FROM fresh GROUP BY 1, 2, 3, 4) f
WHERE c.tenant_id = f.tenant_id AND c.metric_id = f.metric_id
  AND c.customer_ref = f.customer_ref AND c.period_start = f.period_start
"""
)
