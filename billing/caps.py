"""May a customer go on? Counter and what is stored and not yet folded, against the caps.

A cap is an alert rule with the action ``hard_cap`` (deny) or ``soft_cap`` (allow, and say so).
Nothing is reserved: two callers who ask at once may both be allowed.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, LiteralString
from uuid import UUID

from django.db.models import Q

from billing.alerting import CAPS, Type, narrowest
from billing.models import AlertRule
from billing.projection import Projection, price_book, priced
from counters.selectors import MetricUsage, current_usage, period_of
from counters.selectors.usage import CURRENT, usage_of_rows
from ledger.services.registry import known_metric_id
from stripemeter.lib.errors import NotFound
from stripemeter.lib.livesql import raw_cursor
from stripemeter.lib.periods import Period, utc_month

#: The customer's caps and its usage in one round trip. The caps come as an array in the first
#: column, since every answer has one row at least; the usage is null where there is none.
_CHECK: LiteralString = (
    """
SELECT head.*, used.* FROM (
    SELECT t.has_calendars, ARRAY(
        SELECT ARRAY[r.id::text, r.customer_ref, r.metric_id::text, r.type, r.action,
                     r.threshold::text, r.config ->> 'currency']
        FROM billing_alertrule r
        WHERE r.tenant_id = t.id AND r.enabled AND r.deleted_at IS NULL
          AND r.action IN ('soft_cap', 'hard_cap')
          AND (r.customer_ref = %(customer)s OR r.customer_ref IS NULL)
        ORDER BY r.created_at, r.id) AS caps
    FROM tenancy_tenant t WHERE t.id = %(tenant)s
) head LEFT JOIN ("""
    + CURRENT
    + """) used ON true
"""
)
_HEAD = 2


@dataclass(frozen=True, slots=True)
class CapState:
    """One cap and where the customer stands."""

    rule: AlertRule
    metric: str | None
    limit: Decimal
    current: Decimal
    #: Whether the quantity asked for would take it over the limit.
    exceeded: bool
    currency: str | None = None

    @property
    def remaining(self) -> Decimal:
        """What is left, at least nothing."""
        return max(self.limit - self.current, Decimal(0))

    @property
    def is_hard(self) -> bool:
        """Whether it denies."""
        return self.rule.action == AlertRule.Action.HARD_CAP


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer: allowed unless a hard cap is exceeded."""

    period: Period
    caps: list[CapState]
    pending_events: int

    @property
    def allowed(self) -> bool:
        """No hard cap is exceeded."""
        return not any(cap.is_hard and cap.exceeded for cap in self.caps)


def caps_in_force(*, tenant_id: int, customer_ref: str) -> list[AlertRule]:
    """The caps that may concern the customer, as `_CHECK` reads them: few, in an own index."""
    return list(
        AlertRule.objects.filter(
            Q(customer_ref=customer_ref) | Q(customer_ref__isnull=True),
            tenant_id=tenant_id,
            enabled=True,
            deleted_at__isnull=True,
            action__in=CAPS,
        ).order_by("created_at", "id")
    )


def check_caps(
    *,
    tenant_id: int,
    customer_ref: str,
    metric: str | None,
    quantity: Decimal | None,
    now: datetime,
) -> Verdict:
    """Whether the customer may use ``quantity`` more of ``metric`` (None: any more at all).

    Caps on money deny once the cost so far has reached them; what the quantity would cost is
    not guessed. Raises `NotFound` for a metric that the tenant does not have.
    """
    metric_id = None if metric is None else known_metric_id(tenant_id, metric)
    if metric is not None and metric_id is None:
        raise NotFound("No such metric")
    subject = None if metric is None or metric_id is None else (metric_id, metric)
    found = _read(tenant_id, customer_ref, utc_month(now), metric_id)
    if found.has_calendars:
        period = period_of(tenant_id=tenant_id, customer_ref=customer_ref, instant=now)
        if period != found.period:
            found = _read(tenant_id, customer_ref, period, metric_id)
    if not found.rules:
        return Verdict(found.period, [], 0)
    usage = found.usage
    caps = list(_usage_caps(found.rules, customer_ref, usage, subject, quantity))
    if any(rule.type == Type.BUDGET for rule in found.rules):
        if metric_id is not None:  # the bill is made of every metric
            usage = current_usage(
                tenant_id=tenant_id, customer_ref=customer_ref, period=found.period
            )
        book = price_book(tenant_id=tenant_id, metric_ids=[each.metric_id for each in usage])
        projection = priced(customer_ref, found.period, usage, book)
        caps += _money_caps(found.rules, customer_ref, projection, subject)
    return Verdict(found.period, caps, sum(each.pending_events for each in usage))


@dataclass(frozen=True, slots=True)
class _Found:
    """What one statement says of a customer."""

    period: Period
    has_calendars: bool
    rules: list[AlertRule]
    usage: list[MetricUsage]


def _read(tenant_id: int, customer_ref: str, period: Period, metric_id: int | None) -> _Found:
    with raw_cursor() as cursor:
        cursor.execute(
            _CHECK,
            {
                "tenant": tenant_id,
                "customer": customer_ref,
                "start": period.start,
                "end": period.end,
                "metric": metric_id,
            },
        )
        rows = cursor.fetchall()
    has_calendars, caps = rows[0][:_HEAD]
    usage = usage_of_rows(row[_HEAD:] for row in rows if row[_HEAD] is not None)
    return _Found(period, has_calendars, [_rule(tenant_id, cap) for cap in caps], usage)


def _rule(tenant_id: int, cap: list[Any]) -> AlertRule:
    key, customer_ref, metric_id, kind, action, threshold, currency = cap
    return AlertRule(
        id=UUID(key),
        tenant_id=tenant_id,
        customer_ref=customer_ref,
        metric_id=None if metric_id is None else int(metric_id),
        type=kind,
        action=action,
        threshold=Decimal(threshold),
        config={} if currency is None else {"currency": currency},
    )


def caps_of(*, tenant_id: int, projection: Projection) -> list[CapState]:
    """Where the customer of a projection stands with every cap."""
    ref = projection.customer_ref
    rules = caps_in_force(tenant_id=tenant_id, customer_ref=ref)
    if not rules:
        return []
    return [
        *_usage_caps(rules, ref, projection.usage, None, None),
        *_money_caps(rules, ref, projection, None),
    ]


def _usage_caps(
    rules: list[AlertRule],
    customer_ref: str,
    usage: list[MetricUsage],
    metric: tuple[int, str] | None,
    quantity: Decimal | None,
) -> list[CapState]:
    known = {each.metric_id: each for each in usage}
    wanted = dict([metric]) if metric else {each.metric_id: each.name for each in usage}
    caps = []
    for metric_id, name in wanted.items():
        current = known[metric_id].total if metric_id in known else Decimal(0)
        for rule in narrowest(rules, customer_ref=customer_ref, metric_id=metric_id):
            if rule.type == Type.THRESHOLD:
                over = _exceeds(current, rule.threshold, quantity)
                caps.append(CapState(rule, name, rule.threshold, current, over))
    return caps


def _exceeds(current: Decimal, limit: Decimal, quantity: Decimal | None) -> bool:
    return current >= limit if quantity is None else current + quantity > limit


def _money_caps(
    rules: list[AlertRule],
    customer_ref: str,
    projection: Projection,
    metric: tuple[int, str] | None,
) -> list[CapState]:
    caps = []
    subjects: list[int | None] = [None, *{line.usage.metric_id for line in projection.lines}]
    for metric_id in subjects:
        if metric is not None and metric_id not in {None, metric[0]}:
            continue
        for rule in narrowest(rules, customer_ref=customer_ref, metric_id=metric_id):
            if rule.type != Type.BUDGET:
                continue
            currency = cap_currency(rule, projection)
            if currency is None:
                continue
            lines = [
                line
                for line in projection.lines
                if line.price is not None
                and line.price.currency == currency
                and metric_id in {None, line.usage.metric_id}
            ]
            cost = sum((line.amount or Decimal(0) for line in lines), Decimal(0))
            name = lines[0].usage.name if metric_id is not None and lines else None
            over = cost >= rule.threshold
            caps.append(CapState(rule, name, rule.threshold, cost, over, currency))
    return caps


def cap_currency(rule: AlertRule, projection: Projection) -> str | None:
    """The budget's currency: the one it names, else the only one of the bill."""
    named = rule.config.get("currency")
    if named:
        return str(named)
    found = projection.currencies
    return found[0] if len(found) == 1 else None
