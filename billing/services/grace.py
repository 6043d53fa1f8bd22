"""Watches the grace between a period's end and its invoice: half of it gone, units unpushed.

Deltas of an ended period still go out, stamped inside it, until its invoice is final. What
is not at Stripe by then is on no invoice, so somebody is told while there is time to act.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import LiteralString
from uuid import UUID

from django.db import connection, transaction

from billing import metrics
from billing.models import PriceMapping, PushCursor
from billing.projection import billed_units
from stripemeter.lib.decimals import plain
from stripemeter.lib.instants import rfc3339
from stripemeter.lib.logs import get_logger

log = get_logger(__name__)

# Periods that only partly lie in a mapping's segment are left out, as on the home page.
_CLOSING: LiteralString = """
SELECT m.id, c.tenant_id, c.customer_ref, c.period_start, c.period_end, b.finalizes_at,
       CASE m.aggregation WHEN 'sum' THEN c.sum WHEN 'count' THEN c.event_count
            WHEN 'max' THEN c.max WHEN 'min' THEN c.min WHEN 'last' THEN c.last
            ELSE c.unique_count END + c.adjusted,
       coalesce((SELECT sum(p.delta) FROM billing_push p
           WHERE p.tenant_id = c.tenant_id AND p.mapping_id = m.id
             AND p.customer_ref = c.customer_ref AND p.period_start = c.period_start
             AND p.mode = 'live' AND p.state = 'acknowledged'), 0),
       coalesce(k.held_reason, ''), k.grace_alerted_at
FROM counters_billingperiod b
JOIN counters_counter c ON c.tenant_id = b.tenant_id AND c.customer_ref = b.customer_ref
     AND c.period_start = lower(b.span)
JOIN billing_pricemapping m ON m.tenant_id = c.tenant_id AND m.metric_id = c.metric_id
LEFT JOIN billing_pushcursor k ON k.tenant_id = c.tenant_id AND k.mapping_id = m.id
     AND k.customer_ref = c.customer_ref AND k.period_start = c.period_start AND k.mode = 'live'
WHERE b.state = 'closing' AND b.finalizes_at > %(now)s AND m.active
  AND (%(tenant)s::bigint IS NULL OR b.tenant_id = %(tenant)s)
  AND (m.effective_from IS NULL OR m.effective_from <= c.period_start)
  AND (m.effective_to IS NULL OR m.effective_to >= c.period_end)
ORDER BY b.finalizes_at, c.customer_ref, m.id
LIMIT %(limit)s
"""

ROWS_MAX = 5_000


@dataclass(frozen=True, slots=True)
class InGrace:
    """A customer's ended period whose invoice is not final and whose usage Stripe lacks."""

    mapping: PriceMapping
    customer_ref: str
    period_start: datetime
    period_end: datetime
    finalizes_at: datetime
    #: In Stripe's units, signed.
    unpushed: Decimal
    held_reason: str
    alerted_at: datetime | None

    @property
    def half_time(self) -> datetime:
        """When half of the grace is gone."""
        return self.period_end + (self.finalizes_at - self.period_end) / 2


def in_grace(*, now: datetime, tenant_id: int | None = None, limit: int = 200) -> list[InGrace]:
    """Unpushed usage of ended periods, the most urgent first; live mode."""
    with connection.cursor() as cursor:
        cursor.execute(_CLOSING, {"now": now, "tenant": tenant_id, "limit": ROWS_MAX})
        rows = cursor.fetchall()
    mappings: dict[UUID, PriceMapping] = {
        each.pk: each
        for each in PriceMapping.objects.filter(pk__in={row[0] for row in rows}).select_related(
            "metric", "tenant"
        )
    }
    found = []
    for mapping_id, _, ref, start, end, finalizes_at, total, known, held, alerted in rows:
        mapping = mappings[mapping_id]
        missing = billed_units(total or Decimal(0), mapping) - known
        if missing:
            found.append(InGrace(mapping, ref, start, end, finalizes_at, missing, held, alerted))
    return found[:limit]


@transaction.atomic
def alert_at_half_time(*, now: datetime) -> int:
    """Tell once per customer, mapping and period; how many were told of now."""
    told = 0
    for each in in_grace(now=now, limit=ROWS_MAX):
        if each.alerted_at is not None or now < each.half_time:
            continue
        PushCursor.objects.filter(
            tenant_id=each.mapping.tenant_id,
            mapping_id=each.mapping.pk,
            customer_ref=each.customer_ref,
            period_start=each.period_start,
            mode="live",
        ).update(grace_alerted_at=now)
        metrics.grace_alerts.inc()
        log.error(
            "grace.half_over",
            tenant=each.mapping.tenant.key,
            metric=each.mapping.metric.name,
            customer_ref=each.customer_ref,
            unpushed=plain(each.unpushed),
            finalizes_at=rfc3339(each.finalizes_at),
            held_reason=each.held_reason,
        )
        told += 1
    return told
