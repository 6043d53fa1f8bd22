"""The statements of the push gate."""

from typing import LiteralString

#: Changes with a restore into another server or database, with point-in-time recovery and
#: with a promotion: the cluster's id, its timeline, and the database's own id.
IDENTITY: LiteralString = """
SELECT s.system_identifier, c.timeline_id, d.oid
FROM pg_control_system() s, pg_control_checkpoint() c, pg_database d
WHERE d.datname = current_database()
"""

# As `plan_sql.CANDIDATES`, whatever was seen, held or not: cursors of one account that were
# not read back since it was restored, the new ones of its lost time included.
UNREAD: LiteralString = r"""
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
WHERE a.id = %(account)s AND m.active AND (a.mode = 'live' OR m.shadow)
  AND c.period_end > %(horizon)s AND c.period_start <= %(now)s + interval '1 hour'
  AND CASE WHEN k.mode IS NOT NULL THEN k.generation < %(generation)s
      ELSE c.period_start < %(restored)s END
  AND (l.id IS NOT NULL OR c.customer_ref ~ '^cus_[A-Za-z0-9]{1,64}$')
  AND CASE WHEN m.aggregation IN ('sum', 'count') AND m.push_semantics <> 'level'
      THEN coalesce(m.effective_from < c.period_end, true)
      ELSE coalesce(m.effective_from <= c.period_start, true) END
  AND coalesce(m.effective_to > c.period_start, true)
  AND NOT EXISTS (SELECT FROM counters_billingperiod p
      WHERE p.tenant_id = c.tenant_id AND p.customer_ref = c.customer_ref
        AND lower(p.span) = c.period_start AND p.state IN ('frozen', 'sealed'))
ORDER BY m.id, c.customer_ref, c.period_start LIMIT %(limit)s
"""
