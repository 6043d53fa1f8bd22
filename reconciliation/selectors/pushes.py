"""What was told to Stripe, as the push rows say."""

from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, LiteralString
from uuid import UUID

from django.db import connection

from billing.models import Push
from reconciliation.facts import ACKNOWLEDGED, REJECTED, PushFact
from reconciliation.selectors.targets import Key, Target, columns, key_of

#: Pushes of one cursor that are looked at one by one; more have no use for evidence.
PUSHES_MAX = 20_000
#: Rejections that are our own doing, not Stripe's.
OWN_CODES = frozenset({"never_sent", "operator", "released", "repair", "undone"})


@dataclass(slots=True)
class Told:
    """The pushes of one cursor, added up."""

    #: Acknowledged values by the UTC day of their timestamp.
    days: dict[date, Decimal] = field(default_factory=dict)
    acknowledged: Decimal = Decimal(0)
    #: Neither acknowledged nor rejected.
    open: Decimal = Decimal(0)
    open_count: int = 0
    customers: set[str] = field(default_factory=set)
    last_sequence: int = 0
    #: Sequences up to the last one that are not acknowledged.
    exceptions: list[int] = field(default_factory=list)
    rejected: bool = False


_ARRAYS: LiteralString = "%s::bigint[], %s::uuid[], %s::text[], %s::timestamptz[], %s::text[]"
_TOLD: LiteralString = f"""
SELECT p.tenant_id, p.mapping_id, p.customer_ref, p.period_start, p.mode,
       p.stamped_at::date, p.state, p.stripe_customer_id, sum(p.delta), count(*),
       max(p.sequence), array_agg(p.sequence) FILTER (WHERE p.state <> 'acknowledged')
FROM unnest({_ARRAYS}) AS w(tenant_id, mapping_id, customer_ref, period_start, mode)
JOIN billing_push p USING (tenant_id, mapping_id, customer_ref, period_start, mode)
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
"""


def told(targets: list[Target]) -> dict[Key, Told]:
    """The pushes of ``targets``, added up by day in the database."""
    found = {each.key: Told() for each in targets}
    if not targets:
        return found
    with connection.cursor() as cursor:
        cursor.execute(_TOLD, columns(each.key for each in targets))
        for *key, day, state, customer, total, number, last, exceptions in cursor.fetchall():
            one = found[key_of(key)]
            one.last_sequence = max(one.last_sequence, last)
            one.exceptions += exceptions or []
            if state == ACKNOWLEDGED:
                one.days[day] = one.days.get(day, Decimal(0)) + total
                one.acknowledged += total
                one.customers.add(customer)
            elif state == REJECTED:
                one.rejected = True
            else:
                one.open += total
                one.open_count += number
    return found


def facts_of(target: Target) -> tuple[PushFact, ...]:
    """Every push of the cursor, oldest first."""
    rows = Push.objects.filter(
        tenant_id=target.tenant_id,
        mapping_id=target.mapping_id,
        customer_ref=target.customer_ref,
        period_start=target.period_start,
        mode=target.mode,
    ).order_by("-sequence")[:PUSHES_MAX]
    return tuple(_fact(row) for row in reversed(rows))


def _fact(row: Push) -> PushFact:
    own = row.error_code in OWN_CODES
    evidence: Any = row.evidence if isinstance(row.evidence, dict) else {}
    told_by = evidence.get("webhookEvent")
    return PushFact(
        id=row.id,
        sequence=row.sequence,
        identifier=row.identifier,
        state=row.state,
        slice_day=row.slice_day,
        stamped_at=row.stamped_at,
        delta=row.delta,
        value=row.value,
        customer=row.stripe_customer_id,
        created_at=row.created_at,
        settled_at=row.settled_at,
        displaced=row.displaced,
        error_code="" if own else row.error_code,
        rejected_by="" if own else str(told_by or ""),
    )


_SIBLINGS: LiteralString = """
SELECT p.stamped_at::date, sum(p.delta) FROM billing_push p
WHERE p.tenant_id = %(tenant)s AND p.mapping_id = ANY(%(mappings)s)
  AND p.customer_ref = ANY(%(customers)s) AND p.mode = %(mode)s
  AND (p.mapping_id, p.customer_ref, p.period_start)
      <> (%(mapping)s::uuid, %(customer)s::text, %(period)s::timestamptz)
  AND p.target = %(target)s AND p.stripe_customer_id = %(stripe_customer)s
  AND p.state = 'acknowledged' AND p.stamped_at >= %(first)s AND p.stamped_at < %(last)s
GROUP BY 1
"""
_NEIGHBOURS: LiteralString = """
SELECT array(SELECT m.id FROM billing_pricemapping m JOIN ledger_metric t ON t.id = m.metric_id
             WHERE m.tenant_id = %(tenant)s
               AND coalesce(m.stripe_meter_event_name, t.name) = %(target)s),
       array(SELECT DISTINCT customer_ref FROM billing_customerlink
             WHERE tenant_id = %(tenant)s AND stripe_customer_id = %(stripe_customer)s
             UNION SELECT %(customer)s::text)
"""


def siblings(target: Target) -> dict[date, Decimal]:
    """What other cursors told Stripe about the same meter and customer, by UTC day.

    Covers the period and a day on either side.
    """
    parameters: dict[str, Any] = {
        "tenant": target.tenant_id,
        "mapping": target.mapping_id,
        "customer": target.customer_ref,
        "period": target.period_start,
        "mode": target.mode,
        "target": target.event_name,
        "stripe_customer": target.stripe_customer,
        "first": target.period_start - timedelta(days=2),
        "last": target.period_end + timedelta(days=2),
    }
    with connection.cursor() as cursor:
        cursor.execute(_NEIGHBOURS, parameters)
        mappings, customers = cursor.fetchone()
        cursor.execute(_SIBLINGS, parameters | {"mappings": mappings, "customers": customers})
        return dict(cursor.fetchall())


def of_ids(tenant_id: int, ids: list[UUID]) -> list[Push]:
    """Pushes by id, in the order they were made."""
    return list(Push.objects.filter(tenant_id=tenant_id, id__in=ids).order_by("sequence"))
