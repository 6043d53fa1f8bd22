"""Reads for the operators' pages: what is not pushed yet, and who the customers are."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import LiteralString
from uuid import UUID

from django.db import connection
from django.db.models import Count, Max, Min

from billing.models import CustomerLink, PriceMapping, Push
from billing.models.pushes import OPEN_STATES
from billing.pricing import PricingError, Rater, RuleSet
from billing.pricing.numbers import major
from billing.projection import billed_units
from billing.services.prices import price_of
from counters.models import Counter
from stripemeter.lib.decimals import exact_sum

#: Above this many differing customers the sum of money stops and says so.
PRICED_MAX = 500


@dataclass(frozen=True, slots=True)
class PushStates:
    """How many pushes stand where; the acknowledged ones of the last day only."""

    counts: dict[str, int]
    acknowledged_today: int
    oldest_open: datetime | None


def push_states(*, tenant_id: int, since: datetime) -> PushStates:
    """Unsettled pushes of the tenant by state, and what was acknowledged from ``since`` on."""
    unsettled = Push.objects.filter(tenant_id=tenant_id).exclude(
        state__in=["acknowledged", "rejected"]
    )
    counts = dict(unsettled.values_list("state").annotate(number=Count("id")).order_by("state"))
    oldest = unsettled.filter(state__in=OPEN_STATES).aggregate(oldest=Min("created_at"))["oldest"]
    today = Push.objects.filter(tenant_id=tenant_id, state="acknowledged", settled_at__gte=since)
    return PushStates(counts, today.count(), oldest)


@dataclass(frozen=True, slots=True)
class Unpushed:
    """What one customer has used and Stripe has not acknowledged, in Stripe's units."""

    mapping_id: UUID
    customer_ref: str
    wanted: Decimal
    acknowledged: Decimal

    @property
    def units(self) -> Decimal:
        """Signed: negative where Stripe must be told less."""
        return self.wanted - self.acknowledged


# Periods that only partly lie in a mapping's segment are left out: their days are billed by
# two mappings, and the counter does not know days.
_UNPUSHED: LiteralString = """
SELECT m.id, c.customer_ref,
       CASE m.aggregation WHEN 'sum' THEN c.sum WHEN 'count' THEN c.event_count
            WHEN 'max' THEN c.max WHEN 'min' THEN c.min WHEN 'last' THEN c.last
            ELSE c.unique_count END + c.adjusted,
       coalesce((
           SELECT sum(p.delta) FROM billing_push p
           WHERE p.tenant_id = %(tenant)s AND p.mapping_id = m.id
             AND p.customer_ref = c.customer_ref AND p.period_start = c.period_start
             AND p.mode = 'live' AND p.state = 'acknowledged'), 0)
FROM billing_pricemapping m
JOIN counters_counter c ON c.tenant_id = m.tenant_id AND c.metric_id = m.metric_id
LEFT JOIN billing_pushcursor k
  ON k.tenant_id = m.tenant_id AND k.mapping_id = m.id AND k.customer_ref = c.customer_ref
 AND k.period_start = c.period_start AND k.mode = 'live'
LEFT JOIN (
    SELECT DISTINCT mapping_id, customer_ref, period_start FROM billing_push
    WHERE tenant_id = %(tenant)s AND mode = 'live' AND state <> 'acknowledged'
) o ON o.mapping_id = m.id AND o.customer_ref = c.customer_ref
   AND o.period_start = c.period_start
WHERE m.tenant_id = %(tenant)s AND m.active AND c.period_end > %(now)s
  -- Planned as it stands and all of it acknowledged: at most a carry is left.
  AND (k.seen_revision IS DISTINCT FROM c.revision OR o.mapping_id IS NOT NULL)
  AND (m.effective_from IS NULL OR m.effective_from <= c.period_start)
  AND (m.effective_to IS NULL OR m.effective_to >= c.period_end)
"""


def unpushed(
    *, tenant_id: int, now: datetime
) -> tuple[dict[UUID, PriceMapping], list[tuple[PriceMapping, Unpushed]]]:
    """Customers of running periods whose usage Stripe does not have whole; live mode."""
    mappings = {
        mapping.pk: mapping
        for mapping in PriceMapping.objects.filter(tenant_id=tenant_id, active=True).select_related(
            "metric"
        )
    }
    with connection.cursor() as cursor:
        cursor.execute(_UNPUSHED, {"tenant": tenant_id, "now": now})
        rows = cursor.fetchall()
    found = []
    for mapping_id, customer_ref, total, acknowledged in rows:
        mapping = mappings.get(mapping_id)
        if mapping is None or total is None:
            continue
        wanted = billed_units(total, mapping)
        if wanted != acknowledged:
            found.append((mapping, Unpushed(mapping_id, customer_ref, wanted, acknowledged)))
    return mappings, found


@dataclass(frozen=True, slots=True)
class UnpushedMoney:
    """Worth of what is not pushed, per currency; ``unpriced`` customers have no known price."""

    amounts: dict[str, Decimal]
    customers: int
    unpriced: int
    is_partial: bool


@dataclass(frozen=True, slots=True)
class UnpushedSums:
    """What is not pushed: units per metric, by name, and what they are worth."""

    units: list[tuple[str, Decimal]]
    money: UnpushedMoney


def unpushed_sums(*, tenant_id: int, now: datetime) -> UnpushedSums:
    """Both sums of one reading: it joins every open counter with its cursor."""
    mappings, found = unpushed(tenant_id=tenant_id, now=now)
    by_metric: dict[str, list[Decimal]] = {}
    for mapping, each in found:
        by_metric.setdefault(mapping.metric.name, []).append(each.units)
    units = sorted((name, exact_sum(parts)) for name, parts in by_metric.items())
    return UnpushedSums(units, _worth(mappings, found))


def _worth(
    mappings: dict[UUID, PriceMapping], found: list[tuple[PriceMapping, Unpushed]]
) -> UnpushedMoney:
    """The price of what should stand at Stripe minus the price of what does, customer by customer.

    So tiers count. At most 500 customers are priced.
    """
    touched = {mapping.pk for mapping, _ in found}
    prices = {key: price_of(mapping) for key, mapping in mappings.items() if key in touched}
    amounts: dict[str, Decimal] = {}
    unpriced = 0
    for mapping, each in found[:PRICED_MAX]:
        price = prices[mapping.pk]
        if price is None:
            unpriced += 1
            continue
        try:
            rater = Rater(price, RuleSet.STRIPE)
            zero = Decimal(0)
            worth = rater.amount(max(each.wanted, zero)) - rater.amount(
                max(each.acknowledged, zero)
            )
        except PricingError:
            unpriced += 1
            continue
        worth_major = major(worth, price.exponent)
        amounts[price.currency] = amounts.get(price.currency, zero) + worth_major
    return UnpushedMoney(amounts, len(found), unpriced, len(found) > PRICED_MAX)


@dataclass(frozen=True, slots=True)
class ListedCustomer:
    """A customer as the list shows it."""

    customer_ref: str
    metrics: int
    folded_at: datetime | None
    stripe_customer_id: str


def customers(
    *, tenant_id: int, search: str, after: str | None, now: datetime, limit: int
) -> list[ListedCustomer]:
    """Customers with usage whose reference starts with ``search``, in order of reference."""
    rows = Counter.objects.filter(tenant_id=tenant_id)
    if search:
        rows = rows.filter(customer_ref__gte=search, customer_ref__lt=f"{search}\U0010ffff")
    if after is not None:
        rows = rows.filter(customer_ref__gt=after)
    refs = list(
        rows.order_by("customer_ref").values_list("customer_ref", flat=True).distinct()[:limit]
    )
    running = {
        ref: (metrics, folded_at)
        for ref, metrics, folded_at in Counter.objects.filter(
            tenant_id=tenant_id, customer_ref__in=refs, period_end__gt=now
        )
        .values_list("customer_ref")
        .annotate(metrics=Count("metric_id", distinct=True), newest=Max("folded_at"))
        .order_by()
    }
    links = dict(
        CustomerLink.objects.filter(
            tenant_id=tenant_id, mode="live", customer_ref__in=refs
        ).values_list("customer_ref", "stripe_customer_id")
    )
    return [
        ListedCustomer(
            ref,
            *running.get(ref, (0, None)),
            links.get(ref) or (ref if ref.startswith("cus_") else ""),
        )
        for ref in refs
    ]
