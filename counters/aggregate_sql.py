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

#: Sum, count, max and min of every metric: one pass over the events, two upserts.
TOTALS: LiteralString = """
WITH source AS ({source}), days AS MATERIALIZED (
    SELECT tenant_id, metric_id, customer_ref, period_start, day,
           min(period_end) AS period_end, sum(quantity) AS sum, count(*) AS event_count,
           max(quantity) AS max, min(quantity) AS min, max(ts) AS watermark,
           max(recorded_at) AS folded_at
    FROM source GROUP BY 1, 2, 3, 4, 5
), rolled AS (
    INSERT INTO counters_dailyrollup AS r
        (tenant_id, metric_id, customer_ref, period_start, day, sum, event_count, max, min)
    SELECT tenant_id, metric_id, customer_ref, period_start, day, sum, event_count, max, min
    FROM days ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT (tenant_id, metric_id, customer_ref, period_start, day) DO UPDATE SET
        sum = r.sum + excluded.sum, event_count = r.event_count + excluded.event_count,
        max = greatest(r.max, excluded.max), min = least(r.min, excluded.min)
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

#: Members not seen before in the period, for metrics that count uniques.
UNIQUE: LiteralString = (
    """
WITH source AS ({source}), members AS (
    SELECT DISTINCT s.tenant_id, s.metric_id, s.customer_ref, s.period_start, s.period_end,
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
INSERT INTO counters_counter AS c
    (tenant_id, metric_id, customer_ref, period_start, period_end, sum, event_count,
     unique_count, adjusted, revision)
SELECT f.tenant_id, f.metric_id, f.customer_ref, f.period_start,
       f.period_start + interval '1 day', 0, 0, count(*), 0, 1
FROM fresh f GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
ON CONFLICT (tenant_id, metric_id, customer_ref, period_start) DO UPDATE SET
    unique_count = c.unique_count + excluded.unique_count
"""
)
