"""The statements of planning; all of them set-based, parameters always bound."""

from typing import LiteralString

_KEYS: LiteralString = "tenant_id, mapping_id, customer_ref, period_start, mode"
_ARRAYS: LiteralString = "%s::bigint[], %s::uuid[], %s::text[], %s::timestamptz[], %s::text[]"

#: Every counter that an account bills, with its cursor if it has one: the columns of
#: `planning.Candidate`. What is left out is nobody's, too old, not begun, outside the mapping's
#: segment or frozen. Ends inside its WHERE; who uses it adds conditions and an order.
BILLED: LiteralString = r"""
SELECT m.tenant_id, m.id, c.customer_ref, c.period_start, a.mode, c.period_end, c.metric_id,
       m.aggregation, m.push_semantics, m.unit_factor, m.value_decimals, m.effective_from,
       m.effective_to, a.id,
       CASE WHEN m.push_semantics = 'usage_record'
            THEN CASE a.mode WHEN 'live' THEN m.subscription_item_id
                             ELSE m.shadow_subscription_item_id END
            ELSE coalesce(m.stripe_meter_event_name, t.name) END,
       coalesce(l.stripe_customer_id, c.customer_ref), a.generation
FROM billing_stripeaccount a
JOIN billing_pricemapping m ON a.account =
     CASE a.mode WHEN 'live' THEN m.stripe_account ELSE m.shadow_stripe_account END
JOIN ledger_metric t ON t.id = m.metric_id
JOIN counters_counter c ON c.tenant_id = m.tenant_id AND c.metric_id = m.metric_id
LEFT JOIN billing_customerlink l ON l.tenant_id = m.tenant_id
     AND l.customer_ref = c.customer_ref AND l.mode = a.mode
LEFT JOIN billing_pushcursor k ON k.tenant_id = m.tenant_id AND k.mapping_id = m.id
     AND k.customer_ref = c.customer_ref AND k.period_start = c.period_start AND k.mode = a.mode
WHERE m.active AND (a.mode = 'live' OR m.shadow)
  AND c.period_end > %(horizon)s AND c.period_start <= %(now)s + interval '1 hour'
  AND (l.id IS NOT NULL OR c.customer_ref ~ '^cus_[A-Za-z0-9]{1,64}$')
  -- Days can be cut by a segment; a level belongs to the mapping at its period's start.
  AND CASE WHEN m.aggregation IN ('sum', 'count') AND m.push_semantics <> 'level'
      THEN coalesce(m.effective_from < c.period_end, true)
      ELSE coalesce(m.effective_from <= c.period_start, true) END
  AND coalesce(m.effective_to > c.period_start, true)
  AND NOT EXISTS (SELECT FROM counters_billingperiod p
      WHERE p.tenant_id = c.tenant_id AND p.customer_ref = c.customer_ref
        AND lower(p.span) = c.period_start AND p.state IN ('frozen', 'sealed'))
"""
_MOVED: LiteralString = """
  AND a.id = ANY(%(accounts)s)
  AND (%(tenant)s::bigint IS NULL OR m.tenant_id = %(tenant)s)
  AND (k.seen_revision IS NULL OR k.seen_revision < c.revision)
  AND k.held_at IS NULL AND (k.not_before IS NULL OR k.not_before <= %(now)s)
  -- After a restored backup Stripe is read for a cursor before it is planned.
  AND CASE WHEN k.mode IS NOT NULL THEN k.generation = a.generation
      ELSE a.restored_at IS NULL OR c.period_start >= a.restored_at END
"""
_AFTER: LiteralString = """
  AND (m.id, c.customer_ref, c.period_start, a.mode)
      > (%(a1)s::uuid, %(a2)s::text COLLATE "C", %(a3)s::timestamptz, %(a4)s::text)
"""
_ORDER: LiteralString = "ORDER BY m.id, c.customer_ref, c.period_start, a.mode LIMIT %(limit)s"

CANDIDATES: LiteralString = BILLED + _MOVED + _ORDER
CANDIDATES_AFTER: LiteralString = BILLED + _MOVED + _AFTER + _ORDER

# Cursors whose counter is gone because a calendar cut time anew: what was pushed under them
# is taken back, day by day, before the new periods say the same usage.
ORPHANS: LiteralString = """
SELECT m.tenant_id, m.id, k.customer_ref, k.period_start, k.mode, k.period_end, m.metric_id,
       m.aggregation, m.push_semantics, m.unit_factor, m.value_decimals, m.effective_from,
       m.effective_to, a.id,
       CASE WHEN m.push_semantics = 'usage_record'
            THEN CASE k.mode WHEN 'live' THEN m.subscription_item_id
                             ELSE m.shadow_subscription_item_id END
            ELSE coalesce(m.stripe_meter_event_name, t.name) END,
       coalesce(l.stripe_customer_id, k.customer_ref), a.generation
FROM billing_pushcursor k
JOIN billing_pricemapping m ON m.id = k.mapping_id
JOIN ledger_metric t ON t.id = m.metric_id
JOIN billing_stripeaccount a ON a.mode = k.mode AND a.account =
     CASE k.mode WHEN 'live' THEN m.stripe_account ELSE m.shadow_stripe_account END
LEFT JOIN billing_customerlink l ON l.tenant_id = k.tenant_id
     AND l.customer_ref = k.customer_ref AND l.mode = k.mode
WHERE m.active AND (k.mode = 'live' OR m.shadow) AND a.id = ANY(%(accounts)s)
  AND (%(tenant)s::bigint IS NULL OR k.tenant_id = %(tenant)s)
  AND k.period_end > %(horizon)s AND k.held_at IS NULL AND k.generation = a.generation
  AND (l.id IS NOT NULL OR k.customer_ref ~ '^cus_[A-Za-z0-9]{1,64}$')
  AND NOT EXISTS (SELECT FROM counters_counter c
      WHERE c.tenant_id = k.tenant_id AND c.metric_id = m.metric_id
        AND c.customer_ref = k.customer_ref AND c.period_start = k.period_start)
  AND EXISTS (SELECT FROM billing_pushslice s
      WHERE s.tenant_id = k.tenant_id AND s.mapping_id = k.mapping_id
        AND s.customer_ref = k.customer_ref AND s.period_start = k.period_start
        AND s.mode = k.mode AND s.intended <> 0)
  AND NOT EXISTS (SELECT FROM counters_billingperiod p
      WHERE p.tenant_id = k.tenant_id AND p.customer_ref = k.customer_ref
        AND lower(p.span) = k.period_start AND p.state IN ('frozen', 'sealed'))
ORDER BY m.id, k.customer_ref, k.period_start, k.mode LIMIT %(limit)s
"""

MAKE_CURSORS: LiteralString = f"""
INSERT INTO billing_pushcursor ({_KEYS}, period_end, generation, seen_revision, next_sequence,
                                held_reason, rejections)
SELECT u.*, -1, 1, '', 0 FROM unnest({_ARRAYS}, %s::timestamptz[], %s::bigint[])
    AS u({_KEYS}, period_end, generation)
ON CONFLICT DO NOTHING
"""

LOCK_CURSORS: LiteralString = f"""
SELECT k.tenant_id, k.mapping_id, k.customer_ref, k.period_start, k.mode, k.next_sequence
FROM billing_pushcursor k
JOIN unnest({_ARRAYS}) AS u({_KEYS}) USING ({_KEYS})
WHERE k.held_at IS NULL
ORDER BY k.tenant_id, k.mapping_id, k.customer_ref, k.period_start, k.mode
FOR UPDATE OF k SKIP LOCKED
"""

# Per counter one row without a day (level and revision) and one row per UTC day. A
# reverted adjustment is undone by its counter-entry, so both stay in the sum.
TOTALS: LiteralString = f"""
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest({_ARRAYS}, %s::int[], %s::text[])
        AS u({_KEYS}, metric_id, aggregation)
)
SELECT w.tenant_id, w.mapping_id, w.customer_ref, w.period_start, w.mode, NULL::date,
       c.adjusted + coalesce(CASE w.aggregation WHEN 'sum' THEN c.sum
           WHEN 'count' THEN c.event_count WHEN 'max' THEN c.max WHEN 'min' THEN c.min
           WHEN 'last' THEN c.last WHEN 'unique' THEN c.unique_count END, 0), c.revision
FROM wanted w JOIN counters_counter c USING (tenant_id, metric_id, customer_ref, period_start)
UNION ALL
SELECT w.tenant_id, w.mapping_id, w.customer_ref, w.period_start, w.mode, d.day,
       sum(d.total), 0
FROM wanted w
JOIN LATERAL (
    SELECT r.day, CASE w.aggregation WHEN 'sum' THEN r.sum ELSE r.event_count END AS total
    FROM counters_dailyrollup r
    WHERE r.tenant_id = w.tenant_id AND r.metric_id = w.metric_id
      AND r.customer_ref = w.customer_ref AND r.period_start = w.period_start
    UNION ALL
    SELECT j.day, j.delta FROM counters_adjustment j
    WHERE j.tenant_id = w.tenant_id AND j.metric_id = w.metric_id
      AND j.customer_ref = w.customer_ref AND j.period_start = w.period_start
      AND j.status IN ('approved', 'reverted')
) d ON true
WHERE w.aggregation IN ('sum', 'count')
GROUP BY 1, 2, 3, 4, 5, 6
"""

SLICES: LiteralString = f"""
SELECT {_KEYS}, p.day, p.intended FROM billing_pushslice p
JOIN unnest({_ARRAYS}) AS u({_KEYS}) USING ({_KEYS})
"""

OPEN_SLICES: LiteralString = f"""
SELECT DISTINCT {_KEYS}, p.slice_day FROM billing_push p
JOIN unnest({_ARRAYS}) AS u({_KEYS}) USING ({_KEYS})
WHERE p.state IN ('pending', 'sending', 'retry', 'unknown')
"""

# In any period of the customer: a re-cut takes back under one cursor what another will say.
OPEN_DECREASES: LiteralString = f"""
SELECT DISTINCT u.* FROM unnest({_ARRAYS}) AS u({_KEYS})
JOIN billing_push p USING (tenant_id, mapping_id, customer_ref, mode)
WHERE p.state IN ('pending', 'sending', 'retry', 'unknown') AND p.delta < 0
"""

INSERT_PUSHES: LiteralString = """
INSERT INTO billing_push (tenant_id, id, mapping_id, customer_ref, period_start, mode,
    slice_day, sequence, account_id, semantics, target, stripe_customer_id, identifier,
    value, delta, carry, stamped_at, displaced, not_before,
    created_at, state, token, attempts, indeterminate, http_key,
    stripe_request_id, error_code, error_message)
SELECT u.*, u.due, 'pending', 0, 0, false, 0, '', '', ''
FROM unnest(%s::bigint[], %s::uuid[], %s::uuid[], %s::text[], %s::timestamptz[], %s::text[],
    %s::date[], %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[],
    %s::numeric[], %s::numeric[], %s::numeric[], %s::timestamptz[], %s::bool[],
    %s::timestamptz[])
  AS u(tenant_id, id, mapping_id, customer_ref, period_start, mode, slice_day, sequence,
       account_id, semantics, target, stripe_customer_id, identifier, value, delta, carry,
       stamped_at, displaced, due)
"""

MOVE_SLICES: LiteralString = f"""
INSERT INTO billing_pushslice AS p ({_KEYS}, day, intended)
SELECT * FROM unnest({_ARRAYS}, %s::date[], %s::numeric[])
ON CONFLICT ({_KEYS}, day) DO UPDATE SET intended = p.intended + EXCLUDED.intended
"""

MARK_SEEN: LiteralString = f"""
UPDATE billing_pushcursor k
SET seen_revision = u.revision, next_sequence = u.sequence, period_end = u.period_end,
    not_before = NULL,
    held_at = CASE WHEN u.refusal IS NULL THEN NULL ELSE u.at END,
    held_reason = coalesce(u.refusal, '')
FROM unnest({_ARRAYS}, %s::timestamptz[], %s::bigint[], %s::bigint[], %s::text[],
            %s::timestamptz[])
  AS u({_KEYS}, period_end, revision, sequence, refusal, at)
WHERE (k.tenant_id, k.mapping_id, k.customer_ref, k.period_start, k.mode)
    = (u.tenant_id, u.mapping_id, u.customer_ref, u.period_start, u.mode)
"""
