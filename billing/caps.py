"""May a customer go on? Counter and what is stored and not yet folded, against the caps.

A cap is an alert rule with the action ``hard_cap`` (deny) or ``soft_cap`` (allow, and say so).
Nothing is reserved: two callers who ask at once may both be allowed.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from billing.alerting import CAPS, Type, narrowest
from billing.models import AlertRule
from billing.projection import Projection, price_book, priced
from counters.selectors import MetricUsage, current_usage, period_of
from ledger.models import Metric
from stripemeter.lib.errors import NotFound
from stripemeter.lib.periods import Period


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


def caps_in_force(*, tenant_id: int) -> list[AlertRule]:
    """The tenant's caps: few, in an index of their own."""
    return list(
        AlertRule.objects.filter(
            tenant_id=tenant_id, enabled=True, deleted_at__isnull=True, action__in=CAPS
        ).select_related("metric")
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
    rules = caps_in_force(tenant_id=tenant_id)
    period = period_of(tenant_id=tenant_id, customer_ref=customer_ref, instant=now)
    found: Metric | None = None
    if metric is not None:
        found = Metric.objects.filter(tenant_id=tenant_id, name=metric).first()
        if found is None:
            raise NotFound("No such metric")
    mine = [rule for rule in rules if rule.customer_ref in {None, customer_ref}]
    of_money = any(rule.type == Type.BUDGET for rule in mine)
    if not mine:
        return Verdict(period, [], 0)
    usage = current_usage(
        tenant_id=tenant_id,
        customer_ref=customer_ref,
        period=period,
        metric_id=None if of_money or found is None else found.pk,
    )
    caps = list(_usage_caps(mine, customer_ref, usage, found, quantity))
    if of_money:
        book = price_book(tenant_id=tenant_id, metric_ids=[each.metric_id for each in usage])
        caps += _money_caps(mine, customer_ref, priced(customer_ref, period, usage, book), found)
    return Verdict(period, caps, sum(each.pending_events for each in usage))


def caps_of(*, tenant_id: int, projection: Projection) -> list[CapState]:
    """Where the customer of a projection stands with every cap."""
    ref = projection.customer_ref
    rules = [
        rule for rule in caps_in_force(tenant_id=tenant_id) if rule.customer_ref in {None, ref}
    ]
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
    metric: Metric | None,
    quantity: Decimal | None,
) -> list[CapState]:
    known = {each.metric_id: each for each in usage}
    wanted = {metric.pk: metric.name} if metric else {e.metric_id: e.name for e in usage}
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
    rules: list[AlertRule], customer_ref: str, projection: Projection, metric: Metric | None
) -> list[CapState]:
    caps = []
    subjects: list[int | None] = [None, *{line.usage.metric_id for line in projection.lines}]
    for metric_id in subjects:
        if metric is not None and metric_id not in {None, metric.pk}:
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
