"""Legacy subscription items, whose usage records Stripe sums by billing period only. Pure."""

from datetime import date, timedelta
from decimal import Decimal

from reconciliation.facts import Facts
from reconciliation.matching import naming
from reconciliation.reading import Reading
from reconciliation.selectors.targets import Target

ZERO = Decimal(0)


def total_of(
    target: Target, reading: Reading, told: dict[date, Decimal]
) -> tuple[Decimal | None, str]:
    """The item's usage of the target's period; None and why if Stripe cuts it otherwise."""
    middle = target.bounds.start + (target.bounds.end - target.bounds.start) / 2
    found = next((each for each in reading.periods if each.holds(middle)), None)
    if found is None:
        return (None, "Stripe lists no period of the item") if told else (ZERO, "")
    first = None if found.start is None else found.start.date()
    last = None if found.end is None else (found.end - timedelta(microseconds=1)).date()
    if any((first and day < first) or (last and day > last) for day in told):
        return None, "the item's billing period at Stripe is another one"
    return found.total, ""


def spread(whole: Decimal, told: dict[date, Decimal]) -> dict[date, Decimal]:
    """A total without days, as we told it; what differs is put on the last day."""
    days = {day: value for day, value in told.items() if value}
    rest = whole - sum(days.values(), ZERO)
    if rest:
        last = max(days, default=date.min)
        days[last] = days.get(last, ZERO) + rest
    return days


def days_of(facts: Facts, target: Target, reading: Reading) -> dict[date, Decimal] | None:
    """The item's total by day: a difference on the day whose pushes can make it."""
    told: dict[date, Decimal] = {}
    for push in facts.acknowledged:
        told[push.day] = told.get(push.day, ZERO) + push.delta
    whole, _ = total_of(target, reading, told)
    if whole is None:
        return None
    lacking = sum(told.values(), ZERO) - whole
    for day in sorted(told, reverse=True):
        if lacking and naming(abs(lacking), [p for p in facts.acknowledged if p.day == day]):
            return {**told, day: told[day] - lacking}
    return spread(whole, told)
