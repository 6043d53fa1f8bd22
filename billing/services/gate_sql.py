"""The statements of the push gate."""

from typing import LiteralString

from billing.services.plan_sql import BILLED

#: Changes with a restore into another server or database, with point-in-time recovery and
#: with a promotion: the cluster's id, its timeline, and the database's own id.
IDENTITY: LiteralString = """
SELECT s.system_identifier, c.timeline_id, d.oid
FROM pg_control_system() s, pg_control_checkpoint() c, pg_database d
WHERE d.datname = current_database()
"""

# Whatever was seen, held or not: cursors of one account that were not read back since it was
# restored, the new ones of its lost time included.
UNREAD: LiteralString = (
    BILLED
    + """
  AND a.id = %(account)s
  AND CASE WHEN k.mode IS NOT NULL THEN k.generation < %(generation)s
      ELSE c.period_start < %(restored)s END
ORDER BY m.id, c.customer_ref, c.period_start LIMIT %(limit)s
"""
)
