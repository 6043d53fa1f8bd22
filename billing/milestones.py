"""The days on which a forecast reaches a cap or a budget."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from billing.alerting import CAPS, OF_MONEY, Type, narrowest
from billing.caps import cap_currency
from billing.forecasting import Reached, budget_reached, quantity_reached
from billing.models import AlertRule
from billing.outlook import LineOutlook, Outlook, priced_quantity
from billing.projection import Projection


@dataclass(frozen=True, slots=True)
class Milestone:
    """A limit of a rule and when it is expected to be reached."""

    rule: AlertRule
    metric: str | None
    limit: Decimal
    reached: Reached
    currency: str | None = None


def milestones(projection: Projection, expected: Outlook, *, tenant_id: int) -> list[Milestone]:
    """Caps in units, and caps and budgets in money, that apply to the customer."""
    ref = projection.customer_ref
    rules = [
        rule
        for rule in AlertRule.objects.filter(
            tenant_id=tenant_id, enabled=True, deleted_at__isnull=True
        ).exclude(type=Type.SPIKE)
        if rule.customer_ref in {None, ref}
    ]
    found = []
    for line in expected.lines:
        metric = line.line.usage
        for rule in narrowest(rules, customer_ref=ref, metric_id=metric.metric_id):
            if rule.type == Type.THRESHOLD and rule.action in CAPS:
                when = quantity_reached(line.forecast, rule.threshold)
                found.append(Milestone(rule, metric.name, rule.threshold, when))
            elif rule.type in OF_MONEY:
                found += _money(rule, projection, [line], metric.name)
    for rule in narrowest(rules, customer_ref=ref, metric_id=None):
        if rule.type in OF_MONEY:
            found += _money(rule, projection, expected.lines, None)
    return found


def _money(
    rule: AlertRule, projection: Projection, lines: list[LineOutlook], metric: str | None
) -> list[Milestone]:
    currency = cap_currency(rule, projection)
    chosen = {
        str(number): line
        for number, line in enumerate(lines)
        if line.line.price is not None and line.line.price.currency == currency
    }
    if not chosen:
        return []

    def cost(totals: Mapping[str, Decimal]) -> Decimal:
        amounts = (priced_quantity(chosen[name].line, total) for name, total in totals.items())
        return sum((amount for amount in amounts if amount is not None), Decimal(0))

    forecasts = {name: line.forecast for name, line in chosen.items()}
    when = budget_reached(forecasts, cost, rule.threshold)
    return [Milestone(rule, metric, rule.threshold, when, currency)]
