"""Every read of billing that spans rows."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Count, Q, QuerySet, Sum

from billing.models import CustomerLink, PriceMapping, Push, PushAttempt, PushCursor, StripeAccount
from billing.models.pushes import OPEN_STATES


def mappings(
    *, tenant_id: int, metric: str | None = None, active: bool | None = None
) -> QuerySet[PriceMapping]:
    """The tenant's mappings that were not deleted, oldest first."""
    found = PriceMapping.objects.filter(tenant_id=tenant_id, ended_at__isnull=True)
    if metric:
        found = found.filter(metric__name=metric)
    if active is not None:
        found = found.filter(active=active)
    return found.select_related("tenant", "metric").order_by("created_at", "pk")


def mapping(*, tenant_id: int, mapping_id: UUID) -> PriceMapping | None:
    """One mapping of the tenant, deleted or not."""
    return (
        PriceMapping.objects.filter(tenant_id=tenant_id, pk=mapping_id)
        .select_related("tenant", "metric")
        .first()
    )


def mapping_in_force(*, tenant_id: int, metric_id: int, at: datetime) -> PriceMapping | None:
    """The active mapping of a metric whose segment holds ``at``."""
    return (
        PriceMapping.objects.filter(tenant_id=tenant_id, metric_id=metric_id, active=True)
        .filter(Q(effective_from__isnull=True) | Q(effective_from__lte=at))
        .filter(Q(effective_to__isnull=True) | Q(effective_to__gt=at))
        .select_related("tenant", "metric")
        .first()
    )


def customer_links(
    *, tenant_id: int, customer_ref: str | None, mode: str | None, after_id: int, limit: int
) -> list[CustomerLink]:
    """A page of the tenant's links in order of creation."""
    found = CustomerLink.objects.filter(tenant_id=tenant_id, pk__gt=after_id)
    if customer_ref is not None:
        found = found.filter(customer_ref=customer_ref)
    if mode is not None:
        found = found.filter(mode=mode)
    return list(found.order_by("pk")[:limit])


def stripe_customer_of(*, tenant_id: int, customer_ref: str, mode: str) -> str | None:
    """The Stripe customer that a reference stands for; None while it is not linked."""
    linked = (
        CustomerLink.objects.filter(tenant_id=tenant_id, customer_ref=customer_ref, mode=mode)
        .values_list("stripe_customer_id", flat=True)
        .first()
    )
    if linked is None and customer_ref.startswith("cus_"):
        return customer_ref
    return linked


def pushed_total(
    *,
    tenant_id: int,
    mapping_id: UUID,
    customer_ref: str,
    period_start: datetime,
    mode: str = "live",
) -> Decimal:
    """What Stripe has acknowledged for one cursor, in Stripe's units: a sum, never a scalar."""
    found = Push.objects.filter(
        tenant_id=tenant_id,
        mapping_id=mapping_id,
        customer_ref=customer_ref,
        period_start=period_start,
        mode=mode,
        state=Push.State.ACKNOWLEDGED,
    ).aggregate(total=Sum("delta"))
    return Decimal(found["total"] or 0)


@dataclass(frozen=True, slots=True)
class CursorTotals:
    """The pushes of one cursor, added up by what became of them (Stripe's units)."""

    mapping_id: UUID
    customer_ref: str
    period_start: datetime
    period_end: datetime
    mode: str
    acknowledged: Decimal
    open: Decimal
    parked: Decimal
    needs_review: Decimal
    held_reason: str


_CURSOR_TOTALS = """
SELECT k.mapping_id, k.customer_ref, k.period_start, k.period_end, k.mode,
       coalesce(sum(p.delta) FILTER (WHERE p.state = 'acknowledged'), 0),
       coalesce(sum(p.delta) FILTER (
           WHERE p.state IN ('pending', 'sending', 'retry', 'unknown')), 0),
       coalesce(sum(p.delta) FILTER (WHERE p.state = 'parked'), 0),
       coalesce(sum(p.delta) FILTER (WHERE p.state = 'needs_review'), 0),
       CASE WHEN k.held_at IS NULL THEN '' ELSE k.held_reason END
FROM billing_pushcursor k
LEFT JOIN billing_push p USING (tenant_id, mapping_id, customer_ref, period_start, mode)
WHERE k.tenant_id = %(tenant)s AND k.period_end > %(since)s
  AND (%(mode)s::text IS NULL OR k.mode = %(mode)s)
GROUP BY k.tenant_id, k.mapping_id, k.customer_ref, k.period_start, k.mode
ORDER BY 1, 2, 3, 5
"""


def cursor_totals(
    *, tenant_id: int, since: datetime, mode: str | None = None
) -> list[CursorTotals]:
    """All cursors of the tenant whose period ended after ``since``, with their sums."""
    with connection.cursor() as cursor:
        cursor.execute(_CURSOR_TOTALS, {"tenant": tenant_id, "since": since, "mode": mode})
        return [CursorTotals(*row) for row in cursor.fetchall()]


def pushes(
    *,
    tenant_id: int,
    states: tuple[str, ...] = (),
    mode: str | None = None,
    customer_ref: str | None = None,
    mapping_id: UUID | None = None,
    before: UUID | None = None,
    limit: int,
) -> list[Push]:
    """A page of the tenant's pushes, newest first (ids are ordered by time)."""
    found = Push.objects.filter(tenant_id=tenant_id)
    if states:
        found = found.filter(state__in=states)
    if mode is not None:
        found = found.filter(mode=mode)
    if customer_ref is not None:
        found = found.filter(customer_ref=customer_ref)
    if mapping_id is not None:
        found = found.filter(mapping_id=mapping_id)
    if before is not None:
        found = found.filter(id__lt=before)
    return list(found.select_related("account").order_by("-id")[:limit])


def pushes_of_day(
    *, tenant_id: int, mappings: list[UUID], customer_ref: str, day: date, limit: int
) -> list[Push]:
    """What Stripe was told of one UTC day of a customer, newest first."""
    found = Push.objects.filter(
        tenant_id=tenant_id, mapping_id__in=mappings, customer_ref=customer_ref, slice_day=day
    )
    return list(found.order_by("-id")[:limit])


def push(*, tenant_id: int, push_id: UUID) -> Push | None:
    """One push of the tenant, or None."""
    return Push.objects.filter(tenant_id=tenant_id, id=push_id).select_related("account").first()


def push_attempts(*, tenant_id: int, push_id: UUID) -> list[PushAttempt]:
    """Every try to deliver a push, oldest first."""
    return list(
        PushAttempt.objects.filter(tenant_id=tenant_id, push_id=push_id).order_by("token")[:200]
    )


def push_counts(*, tenant_id: int | None = None) -> dict[str, int]:
    """How many pushes are in each state that is not settled for good."""
    found = Push.objects.exclude(state__in=["acknowledged", "rejected"])
    if tenant_id is not None:
        found = found.filter(tenant_id=tenant_id)
    return dict(found.values_list("state").annotate(number=Count("id")).order_by("state"))


def held_cursors(*, tenant_id: int, limit: int) -> list[PushCursor]:
    """Cursors that wait for an operator."""
    found = PushCursor.objects.filter(tenant_id=tenant_id, held_at__isnull=False)
    return list(found.order_by("held_at")[:limit])


def accounts() -> list[StripeAccount]:
    """Every account, for operators."""
    return list(StripeAccount.objects.order_by("account", "mode"))


def accounts_of(tenant_id: int) -> list[StripeAccount]:
    """Accounts that mappings of the tenant name, or that are bound to it."""
    named = PriceMapping.objects.filter(tenant_id=tenant_id)
    live = named.values("stripe_account")
    test = named.filter(shadow_stripe_account__isnull=False).values("shadow_stripe_account")
    return list(
        StripeAccount.objects.filter(
            Q(owner_id=tenant_id)
            | Q(mode="live", account__in=live)
            | Q(mode="test", account__in=test)
        ).order_by("account", "mode")
    )


_DISAGREEING_SLICES = """
SELECT coalesce(s.tenant_id, p.tenant_id), coalesce(s.mapping_id, p.mapping_id),
       coalesce(s.customer_ref, p.customer_ref), coalesce(s.day, p.slice_day),
       coalesce(s.intended, 0), coalesce(p.delta, 0)
FROM billing_pushslice s
FULL JOIN (SELECT tenant_id, mapping_id, customer_ref, period_start, mode, slice_day,
                  sum(delta) AS delta
           FROM billing_push WHERE state <> 'rejected' GROUP BY 1, 2, 3, 4, 5, 6) p
  ON (s.tenant_id, s.mapping_id, s.customer_ref, s.period_start, s.mode, s.day)
   = (p.tenant_id, p.mapping_id, p.customer_ref, p.period_start, p.mode, p.slice_day)
WHERE coalesce(s.intended, 0) <> coalesce(p.delta, 0)
"""


def slices_that_disagree() -> list[tuple[Any, ...]]:
    """Slices whose stored sum is not the sum of their pushes; always empty."""
    with connection.cursor() as cursor:
        cursor.execute(_DISAGREEING_SLICES)
        return list(cursor.fetchall())


def open_pushes(*, tenant_id: int) -> int:
    """Pushes that the machine still works on."""
    return Push.objects.filter(tenant_id=tenant_id, state__in=OPEN_STATES).count()


@dataclass(frozen=True, slots=True)
class MappingTotals:
    """All customers of one mapping, mode and period start, added up (Stripe's units)."""

    metric: str
    mode: str
    period_start: datetime
    customers: int
    acknowledged: Decimal
    open: Decimal
    held: int


# Cursors and pushes are added up apart: joined row by row, a page of ten thousand customers
# would take a second, and far longer on fresh statistics.
_MAPPING_TOTALS = """
WITH k AS (
    SELECT mapping_id, mode, period_start, count(*) AS customers, count(held_at) AS held
    FROM billing_pushcursor WHERE tenant_id = %(tenant)s GROUP BY 1, 2, 3
), p AS (
    SELECT mapping_id, mode, period_start,
           sum(delta) FILTER (WHERE state = 'acknowledged') AS acknowledged,
           sum(delta) FILTER (WHERE state NOT IN ('acknowledged', 'rejected')) AS open
    FROM billing_push WHERE tenant_id = %(tenant)s GROUP BY 1, 2, 3
)
SELECT t.name, k.mode, k.period_start, sum(k.customers), sum(coalesce(p.acknowledged, 0)),
       sum(coalesce(p.open, 0)), sum(k.held)
FROM k
JOIN billing_pricemapping m ON m.id = k.mapping_id
JOIN ledger_metric t ON t.id = m.metric_id
LEFT JOIN p ON p.mapping_id = k.mapping_id AND p.mode = k.mode
    AND p.period_start = k.period_start
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 DESC
"""


def mapping_totals(*, tenant_id: int) -> list[MappingTotals]:
    """Where the tenant's pushing stands, one row per metric, mode and period."""
    with connection.cursor() as cursor:
        cursor.execute(_MAPPING_TOTALS, {"tenant": tenant_id})
        return [
            MappingTotals(metric, mode, start, int(customers), acknowledged, left, int(held))
            for metric, mode, start, customers, acknowledged, left, held in cursor.fetchall()
        ]


def active_cursor_count() -> int:
    """Live cursors of the newest period of each mapping: what moves every day."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(DISTINCT (tenant_id, mapping_id, customer_ref))"
            " FROM billing_pushcursor WHERE mode = 'live'"
        )
        row = cursor.fetchone()
    return int(row[0]) if row else 0
