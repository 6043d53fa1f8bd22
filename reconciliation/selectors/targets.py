"""The cursors a run looks at, with what our side says of each.

Nothing here is shared with the planner of pushes: the same facts are read by other
statements, so that a defect there does not prove itself right here.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, LiteralString
from uuid import UUID

from django.db import connection

from billing.slicing import Step
from counters.totals import ADDITIVE, Totals
from stripemeter.lib.decimals import exact_sum
from stripemeter.lib.periods import Period

PAGE_TARGETS = 500
#: Periods that ended longer ago are looked at only when a run names them.
HORIZON = timedelta(days=40)

Key = tuple[int, UUID, str, datetime, str]


@dataclass(frozen=True, slots=True)
class Scope:
    """What one run looks at."""

    tenant_id: int
    now: datetime
    metric_id: int | None = None
    customer_ref: str | None = None
    #: Periods that start in [from, to); None: those that ended within `HORIZON` or later.
    period_from: datetime | None = None
    period_to: datetime | None = None

    def parameters(self) -> dict[str, Any]:
        """The scope as bound parameters."""
        return {
            "tenant": self.tenant_id,
            "metric": self.metric_id,
            "customer": self.customer_ref,
            "horizon": None if self.period_from else self.now - HORIZON,
            "period_from": self.period_from,
            "period_to": self.period_to,
        }


@dataclass(frozen=True, slots=True)
class Target:
    """One mapping, customer, period and mode."""

    tenant_id: int
    mapping_id: UUID
    customer_ref: str
    period_start: datetime
    mode: str
    period_end: datetime
    metric_id: int
    aggregation: str
    semantics: str
    unit_factor: Decimal
    value_decimals: int
    effective_from: datetime | None
    effective_to: datetime | None
    price_changed: bool
    account: str
    event_name: str
    price_id: str
    subscription_item_id: str
    stripe_customer: str | None
    revision: int
    sum: Decimal
    event_count: int
    max: Decimal | None
    min: Decimal | None
    last: Decimal | None
    unique_count: int
    adjusted: Decimal
    folded_at: datetime | None
    held_reason: str
    frozen_at: datetime | None
    finalizes_at: datetime | None

    @property
    def key(self) -> Key:
        """Primary key of the cursor."""
        return (
            self.tenant_id, self.mapping_id, self.customer_ref, self.period_start, self.mode
        )  # fmt: skip

    @property
    def bounds(self) -> Period:
        """The period, cut to the mapping's segment."""
        return Period(
            max(self.period_start, self.effective_from or self.period_start),
            min(self.period_end, self.effective_to or self.period_end),
        )

    @property
    def is_cut(self) -> bool:
        """Whether the mapping covers only a part of the period."""
        return self.bounds != Period(self.period_start, self.period_end)

    @property
    def additive(self) -> bool:
        """Whether days add up to the total that is pushed."""
        return self.aggregation in ADDITIVE and self.semantics != "level"

    @property
    def step(self) -> Step:
        """The smallest value that is sent."""
        decimals = 0 if self.semantics == "event_count" else self.value_decimals
        return Step(self.unit_factor, decimals)

    @property
    def folded(self) -> Decimal:
        """The counter's total of events."""
        totals = Totals(
            self.sum, self.event_count, self.max, self.min, self.last, None, self.unique_count
        )
        return totals.of(self.aggregation)


_COLUMNS: LiteralString = r"""
SELECT m.tenant_id, m.id, c.customer_ref, c.period_start, s.mode, c.period_end, c.metric_id,
       m.aggregation, m.push_semantics, m.unit_factor, m.value_decimals, m.effective_from,
       m.effective_to,
       EXISTS (SELECT FROM billing_pricemapping o WHERE o.tenant_id = m.tenant_id
           AND o.metric_id = m.metric_id AND o.id <> m.id
           AND (o.effective_from > c.period_start AND o.effective_from < c.period_end
             OR o.effective_to > c.period_start AND o.effective_to < c.period_end
             OR o.ended_at > c.period_start AND o.ended_at < c.period_end)),
       CASE s.mode WHEN 'live' THEN m.stripe_account ELSE m.shadow_stripe_account END,
       CASE WHEN m.push_semantics = 'usage_record'
            THEN coalesce(CASE s.mode WHEN 'live' THEN m.subscription_item_id
                          ELSE m.shadow_subscription_item_id END, '')
            ELSE coalesce(m.stripe_meter_event_name, t.name) END,
       CASE s.mode WHEN 'live' THEN m.price_id ELSE coalesce(m.shadow_price_id, '') END,
       coalesce(CASE s.mode WHEN 'live' THEN m.subscription_item_id
                ELSE m.shadow_subscription_item_id END, ''),
       coalesce(l.stripe_customer_id, CASE WHEN c.customer_ref ~ '^cus_[A-Za-z0-9]{1,64}$'
                                           THEN c.customer_ref END),
       c.revision, c.sum, c.event_count, c.max, c.min, c.last, c.unique_count, c.adjusted,
       c.folded_at,
       CASE WHEN k.held_at IS NULL THEN '' ELSE coalesce(nullif(k.held_reason, ''), 'held') END,
       CASE WHEN p.state IN ('frozen', 'sealed') THEN coalesce(p.frozen_at, upper(p.span)) END,
       p.finalizes_at
FROM billing_pricemapping m
JOIN ledger_metric t ON t.id = m.metric_id
CROSS JOIN (VALUES ('live'), ('test')) AS s(mode)
JOIN counters_counter c ON c.tenant_id = m.tenant_id AND c.metric_id = m.metric_id
LEFT JOIN billing_customerlink l ON l.tenant_id = m.tenant_id
     AND l.customer_ref = c.customer_ref AND l.mode = s.mode
LEFT JOIN billing_pushcursor k ON k.tenant_id = m.tenant_id AND k.mapping_id = m.id
     AND k.customer_ref = c.customer_ref AND k.period_start = c.period_start AND k.mode = s.mode
LEFT JOIN counters_billingperiod p ON p.tenant_id = c.tenant_id
     AND p.customer_ref = c.customer_ref AND lower(p.span) = c.period_start
"""
_WHERE: LiteralString = r"""
WHERE m.tenant_id = %(tenant)s
  AND (%(metric)s::int IS NULL OR m.metric_id = %(metric)s)
  AND (%(customer)s::text IS NULL OR c.customer_ref = %(customer)s)
  AND (%(horizon)s::timestamptz IS NULL OR c.period_end > %(horizon)s)
  AND (%(period_from)s::timestamptz IS NULL OR c.period_start >= %(period_from)s)
  AND (%(period_to)s::timestamptz IS NULL OR c.period_start < %(period_to)s)
  AND (k.mapping_id IS NOT NULL OR (
       m.active AND (s.mode = 'live' OR m.shadow)
       AND CASE WHEN m.aggregation IN ('sum', 'count') AND m.push_semantics <> 'level'
           THEN coalesce(m.effective_from < c.period_end, true)
           ELSE coalesce(m.effective_from <= c.period_start, true) END
       AND coalesce(m.effective_to > c.period_start, true)))
"""
_PAGE: LiteralString = (
    _COLUMNS
    + _WHERE
    + """
  AND (%(after_mapping)s::uuid IS NULL
       OR (m.id, c.customer_ref) > (%(after_mapping)s, %(after_customer)s::text COLLATE "C"))
ORDER BY m.id, c.customer_ref, c.period_start, s.mode LIMIT %(limit)s
"""
)
_LANES: LiteralString = (
    "SELECT count(*), count(DISTINCT (mapping_id, customer_ref, mode)) FROM ("
    "SELECT m.id AS mapping_id, c.customer_ref, s.mode "
    + _COLUMNS[_COLUMNS.index("\nFROM billing_pricemapping m\n") :]
    + _WHERE
    + ") targets"
)


def page(
    scope: Scope, *, after: tuple[UUID, str] | None, limit: int = PAGE_TARGETS
) -> tuple[list[Target], tuple[UUID, str] | None]:
    """Targets after a (mapping, customer), whole customers only; and where to go on.

    All periods of one customer and mapping come together, so that one read of Stripe
    serves them.
    """
    parameters = scope.parameters() | {
        "after_mapping": after[0] if after else None,
        "after_customer": after[1] if after else None,
        "limit": limit,
    }
    with connection.cursor() as cursor:
        cursor.execute(_PAGE, parameters)
        found = [Target(*row) for row in cursor.fetchall()]
    if len(found) < limit:
        return found, None
    final = (found[-1].mapping_id, found[-1].customer_ref)
    whole = [each for each in found if (each.mapping_id, each.customer_ref) != final]
    if not whole:
        return page(scope, after=after, limit=limit * 4)
    return whole, (whole[-1].mapping_id, whole[-1].customer_ref)


def count(scope: Scope) -> tuple[int, int]:
    """How many targets there are, and how many reads of Stripe they need at least."""
    with connection.cursor() as cursor:
        cursor.execute(_LANES, scope.parameters())
        row = cursor.fetchone()
    return int(row[0]), int(row[1])


# --- our side ---------------------------------------------------------------------------


@dataclass(slots=True)
class Ours:
    """What counters and adjustments say about one target."""

    days: dict[date, Decimal] = field(default_factory=dict)
    approved: Decimal = Decimal(0)
    adjustment_ids: list[str] = field(default_factory=list)
    #: Adjustments that wait for an operator.
    held: Decimal = Decimal(0)


_ARRAYS: LiteralString = "%s::bigint[], %s::uuid[], %s::text[], %s::timestamptz[], %s::text[]"
_DAYS: LiteralString = f"""
SELECT w.tenant_id, w.mapping_id, w.customer_ref, w.period_start, w.mode, r.day,
       CASE w.aggregation WHEN 'sum' THEN r.sum ELSE r.event_count END
FROM unnest({_ARRAYS}, %s::int[], %s::text[])
     AS w(tenant_id, mapping_id, customer_ref, period_start, mode, metric_id, aggregation)
JOIN counters_dailyrollup r USING (tenant_id, metric_id, customer_ref, period_start)
WHERE w.aggregation IN ('sum', 'count')
"""
_ADJUSTMENTS: LiteralString = f"""
SELECT w.tenant_id, w.mapping_id, w.customer_ref, w.period_start, w.mode, j.id, j.day, j.delta,
       j.status
FROM unnest({_ARRAYS}, %s::int[], %s::text[])
     AS w(tenant_id, mapping_id, customer_ref, period_start, mode, metric_id, aggregation)
JOIN counters_adjustment j USING (tenant_id, metric_id, customer_ref, period_start)
WHERE j.status <> 'rejected' ORDER BY j.id
"""


def ours(targets: list[Target]) -> dict[Key, Ours]:
    """Day totals and adjustments of ``targets``; adjustments count on their own day."""
    found = {each.key: Ours() for each in targets}
    if not targets:
        return found
    rows = columns((*each.key, each.metric_id, each.aggregation) for each in targets)
    with connection.cursor() as cursor:
        cursor.execute(_DAYS, rows)
        for *key, day, total in cursor.fetchall():
            found[key_of(key)].days[day] = total
        cursor.execute(_ADJUSTMENTS, rows)
        for *key, adjustment_id, day, delta, status in cursor.fetchall():
            mine = found[key_of(key)]
            if status == "pending":
                mine.held += delta
                continue
            mine.approved += delta
            mine.adjustment_ids.append(str(adjustment_id))
            mine.days[day] = mine.days.get(day, Decimal(0)) + delta
    return found


def wanted_of(target: Target, mine: Ours) -> tuple[Decimal, Decimal]:
    """What Stripe should have, in whole steps of its units, and the rest in metric units."""
    total = counter_total(target)
    if target.additive and target.is_cut:
        first = target.bounds.start.date()
        last = (target.bounds.end - timedelta(microseconds=1)).date()
        total = exact_sum([value for day, value in mine.days.items() if first <= day <= last])
    step = target.step
    wanted = step.floor(total)
    return wanted, total - step.quantity_of(wanted)


def counter_total(target: Target) -> Decimal:
    """What the counter bills: its fold and the adjustments booked on it."""
    return target.folded + target.adjusted


def key_of(columns: list[Any]) -> Key:
    """The first five columns of a row as a key."""
    tenant_id, mapping_id, customer_ref, period_start, mode = columns
    return tenant_id, mapping_id, customer_ref, period_start, mode


def columns(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    """Rows turned into the arrays that unnest takes."""
    return [list(column) for column in zip(*rows, strict=True)]
