"""Which rules apply to whom, and what they say. Pure: rows in, decisions and words out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from billing.models import AlertRule, AlertState
from stripemeter.lib.decimals import EXACT, grouped

Type, Action = AlertRule.Type, AlertRule.Action
#: Rules about usage go metric by metric; without one they are about every metric.
OF_USAGE = frozenset({Type.THRESHOLD, Type.SPIKE})
#: Rules about money; without a metric they are about the whole bill.
OF_MONEY = frozenset({Type.BUDGET, Type.FORECASTED_BUDGET})
CAPS = frozenset({Action.SOFT_CAP, Action.HARD_CAP})
BASELINE_DAYS, BASELINE_DAYS_MAX, BASELINE_DAYS_MIN = 7, 28, 3

_SEVERITIES = {
    Action.HARD_CAP: AlertState.Severity.CRITICAL,
    Action.SOFT_CAP: AlertState.Severity.WARN,
}


def narrowest(
    rules: Iterable[AlertRule], *, customer_ref: str, metric_id: int | None
) -> list[AlertRule]:
    """The rules that apply to a customer's metric (None: to the whole bill).

    Of one type and action only those of the narrowest scope: customer and metric, customer,
    metric, tenant. Several thresholds of the same scope all apply.
    """
    best: dict[tuple[str, str], tuple[int, list[AlertRule]]] = {}
    for rule in rules:
        if rule.customer_ref not in {None, customer_ref}:
            continue
        if rule.type in OF_USAGE and metric_id is not None:
            if rule.metric_id not in {None, metric_id}:
                continue
        elif rule.type not in OF_MONEY or rule.metric_id != metric_id:
            continue
        rank = 2 * (rule.customer_ref is not None) + (rule.metric_id is not None)
        held = best.get((rule.type, rule.action))
        if held is None or rank > held[0]:
            best[rule.type, rule.action] = (rank, [rule])
        elif rank == held[0]:
            held[1].append(rule)
    return [rule for _, found in best.values() for rule in found]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule says of a customer now: ``value`` against its threshold."""

    rule: AlertRule
    metric: str
    value: Decimal
    bucket_start: datetime
    bucket_end: datetime
    unit: str = ""

    @property
    def is_met(self) -> bool:
        """Reached counts."""
        return bool(self.value >= self.rule.threshold)

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes it speak once."""
        return (self.rule.pk, self.metric, self.bucket_start, self.rule.threshold)


def spike_factor(
    daily: dict[date, Decimal], *, today: date, config: dict[str, Any]
) -> Decimal | None:
    """Today's usage as a multiple of the mean of the days before; None with too little to say.

    At least three of the days before must have usage, so that a beginning is no spike; days
    without usage count as nothing. ``config.minimum`` is what today must reach to be worth it.
    """
    now = daily.get(today, Decimal(0))
    days = int(config.get("baselineDays", BASELINE_DAYS))
    before = [daily.get(today - timedelta(days=back), Decimal(0)) for back in range(1, days + 1)]
    if sum(value > 0 for value in before) < min(BASELINE_DAYS_MIN, days):
        return None
    if now < Decimal(str(config.get("minimum", 0))):
        return None
    baseline = EXACT.divide(sum(before, Decimal(0)), Decimal(days))
    return EXACT.divide(now, baseline).quantize(Decimal("0.0001"), context=EXACT)


def severity_of(rule: AlertRule) -> str:
    """The rule's own severity, else by its action."""
    return str(rule.config.get("severity") or _SEVERITIES.get(Action(rule.action), "warn"))


def title_of(verdict: Verdict, customer_ref: str) -> str:
    """One line for a list or a subject."""
    what = {
        Type.THRESHOLD: f"{verdict.metric} reached {grouped(verdict.rule.threshold)}",
        Type.SPIKE: f"{verdict.metric} at {grouped(verdict.value)} times the days before",
        Type.BUDGET: f"{verdict.metric or 'the bill'} reached {_money(verdict)}",
        Type.FORECASTED_BUDGET: f"{verdict.metric or 'the bill'} is expected to reach "
        + _money(verdict),
    }[Type(verdict.rule.type)]
    return f"{customer_ref}: {what}"[:255]


def _money(verdict: Verdict) -> str:
    return f"{grouped(verdict.rule.threshold)} {verdict.unit}".strip()


def text_of(verdict: Verdict) -> str:
    """The numbers, for a description."""
    unit = f" {verdict.unit}" if verdict.unit and verdict.rule.type != Type.SPIKE else ""
    return (
        f"{grouped(verdict.value)}{unit} in the period from {verdict.bucket_start:%Y-%m-%d} to "
        f"{verdict.bucket_end:%Y-%m-%d}; the rule speaks from {grouped(verdict.rule.threshold)}."
    )


def series_of(rollups: Sequence[tuple[date, Decimal]]) -> dict[date, Decimal]:
    """Values per UTC day; a day on which two periods meet adds up."""
    found: dict[date, Decimal] = {}
    for day, value in rollups:
        found[day] = found.get(day, Decimal(0)) + value
    return found
