"""The statements of delivery; parameters always bound, rules never in SQL's own clock."""

from typing import LiteralString

#: A lease that ran out leaves the outcome unknown: the holder may have sent it.
TAKE_BACK: LiteralString = """
UPDATE billing_push SET state = 'retry', indeterminate = true, not_before = %(now)s,
                        lease_until = NULL
WHERE state = 'sending' AND lease_until < %(now)s AND account_id = %(account)s
"""

# A window of the oldest due pushes, then one per lane. Pushes of a held cursor wait.
DUE: LiteralString = """
WITH due AS MATERIALIZED (
    SELECT p.tenant_id, p.id, p.target, p.stripe_customer_id, p.delta < 0 AS decrease
    FROM billing_push p
    WHERE p.account_id = %(account)s AND p.state IN ('pending', 'retry')
      AND p.not_before <= %(now)s
      AND (p.first_attempt_at IS NULL OR p.first_attempt_at > %(resend_after)s)
      AND NOT EXISTS (SELECT FROM billing_push o
          WHERE o.account_id = p.account_id AND o.target = p.target
            AND o.stripe_customer_id = p.stripe_customer_id AND o.state = 'sending')
      AND NOT EXISTS (SELECT FROM billing_pushcursor k
          WHERE k.tenant_id = p.tenant_id AND k.mapping_id = p.mapping_id
            AND k.customer_ref = p.customer_ref AND k.period_start = p.period_start
            AND k.mode = p.mode AND k.held_at IS NOT NULL)
    ORDER BY p.not_before, p.id LIMIT %(window)s
), lanes AS (
    SELECT DISTINCT ON (target, stripe_customer_id) tenant_id, id
    FROM due ORDER BY target, stripe_customer_id, decrease DESC, id
)
SELECT tenant_id, id FROM lanes ORDER BY id LIMIT %(wanted)s
"""

#: Whether at least this many pushes of an account are due: then they may go in bulk.
BACKLOG: LiteralString = """
SELECT count(*) FROM (
    SELECT FROM billing_push p
    WHERE p.account_id = %(account)s AND p.state IN ('pending', 'retry')
      AND p.not_before <= %(now)s
    LIMIT %(limit)s
) due
"""

CLAIM: LiteralString = """
UPDATE billing_push p
SET state = 'sending', token = p.token + 1, attempts = p.attempts + 1,
    lease_until = %(lease)s, first_attempt_at = coalesce(p.first_attempt_at, %(now)s)
FROM unnest(%(tenants)s::bigint[], %(ids)s::uuid[]) AS u(tenant_id, id)
WHERE p.tenant_id = u.tenant_id AND p.id = u.id AND p.state IN ('pending', 'retry')
RETURNING p.tenant_id, p.id, p.token, p.mapping_id, p.customer_ref, p.period_start, p.mode,
          p.semantics, p.target, p.stripe_customer_id, p.identifier, p.value, p.stamped_at,
          p.http_key, p.attempts, p.indeterminate, p.sequence
"""

SETTLE: LiteralString = """
UPDATE billing_push p
SET state = u.state, indeterminate = u.indeterminate, not_before = u.not_before,
    http_key = p.http_key + u.http_keys, settled_at = u.settled_at, lease_until = NULL,
    stripe_request_id = u.request_id, error_code = u.code, error_message = u.message
FROM unnest(%s::bigint[], %s::uuid[], %s::bigint[], %s::text[], %s::bool[], %s::timestamptz[],
            %s::int[], %s::timestamptz[], %s::text[], %s::text[], %s::text[])
  AS u(tenant_id, id, token, state, indeterminate, not_before, http_keys, settled_at,
       request_id, code, message)
WHERE p.tenant_id = u.tenant_id AND p.id = u.id
  AND p.state = 'sending' AND p.token = u.token
RETURNING p.id
"""

NOTE_ATTEMPTS: LiteralString = """
INSERT INTO billing_pushattempt (tenant_id, push_id, token, started_at, finished_at, outcome,
    http_status, code, message, stripe_request_id, applied)
SELECT * FROM unnest(%s::bigint[], %s::uuid[], %s::bigint[], %s::timestamptz[],
    %s::timestamptz[], %s::text[], %s::int[], %s::text[], %s::text[], %s::text[], %s::bool[])
ON CONFLICT DO NOTHING
"""

HOLD: LiteralString = """
UPDATE billing_pushcursor SET held_at = %(now)s, held_reason = %(reason)s
WHERE tenant_id = %(tenant)s AND mapping_id = %(mapping)s AND mode = %(mode)s
  AND (%(customer)s::text IS NULL OR customer_ref = %(customer)s)
  AND (%(period)s::timestamptz IS NULL OR period_start = %(period)s)
  AND held_at IS NULL
"""

EXPIRE: LiteralString = """
UPDATE billing_push SET state = 'unknown', not_before = %(settle_at)s
WHERE state = 'retry' AND indeterminate AND first_attempt_at <= %(before)s
"""

STALE: LiteralString = """
SELECT p.tenant_id, p.id FROM billing_push p
WHERE p.state IN ('pending', 'retry') AND NOT p.indeterminate
  AND (p.first_attempt_at <= %(before)s
       OR (p.attempts = 0 AND p.stamped_at <= %(stamped)s)
       OR EXISTS (SELECT FROM counters_billingperiod b
           WHERE b.tenant_id = p.tenant_id AND b.customer_ref = p.customer_ref
             AND lower(b.span) = p.period_start AND b.state IN ('frozen', 'sealed')))
FOR UPDATE SKIP LOCKED
"""

LOCK_CURSORS_OF: LiteralString = """
SELECT 1 FROM billing_pushcursor k
WHERE (k.tenant_id, k.mapping_id, k.customer_ref, k.period_start, k.mode) IN (
    SELECT p.tenant_id, p.mapping_id, p.customer_ref, p.period_start, p.mode
    FROM billing_push p
    JOIN unnest(%(tenants)s::bigint[], %(ids)s::uuid[]) AS u(tenant_id, id)
      ON p.tenant_id = u.tenant_id AND p.id = u.id)
ORDER BY k.tenant_id, k.mapping_id, k.customer_ref, k.period_start, k.mode
FOR UPDATE
"""

REJECT: LiteralString = """
WITH gone AS (
    UPDATE billing_push p
    SET state = 'rejected', settled_at = %(now)s, lease_until = NULL, error_code = %(code)s,
        error_message = %(message)s,
        evidence = coalesce(%(evidence)s::jsonb, p.evidence)
    FROM unnest(%(tenants)s::bigint[], %(ids)s::uuid[]) AS u(tenant_id, id)
    WHERE p.tenant_id = u.tenant_id AND p.id = u.id AND p.state <> 'rejected'
    RETURNING p.tenant_id, p.id, p.mapping_id, p.customer_ref, p.period_start, p.mode,
              p.slice_day, p.delta
), less AS (
    UPDATE billing_pushslice s SET intended = s.intended - g.delta
    FROM (SELECT tenant_id, mapping_id, customer_ref, period_start, mode, slice_day,
                 sum(delta) AS delta FROM gone GROUP BY 1, 2, 3, 4, 5, 6) g
    WHERE (s.tenant_id, s.mapping_id, s.customer_ref, s.period_start, s.mode, s.day)
        = (g.tenant_id, g.mapping_id, g.customer_ref, g.period_start, g.mode, g.slice_day)
), again AS (
    UPDATE billing_pushcursor k SET seen_revision = -1
    FROM (SELECT DISTINCT tenant_id, mapping_id, customer_ref, period_start, mode FROM gone) g
    WHERE (k.tenant_id, k.mapping_id, k.customer_ref, k.period_start, k.mode)
        = (g.tenant_id, g.mapping_id, g.customer_ref, g.period_start, g.mode)
)
SELECT id FROM gone
"""
