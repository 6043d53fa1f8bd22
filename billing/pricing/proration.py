"""Proration: the share of an amount for a part of a period, with the counting spelled out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from billing.pricing.errors import InvalidPeriod
from billing.pricing.numbers import divide, half_up, multiply

_MICROSECOND = timedelta(microseconds=1)


class Proration(StrEnum):
    """How time is counted.

    SECOND: instants, to the microsecond (Stripe prorates by the second). DAY: UTC calendar days,
    the first counts and the last does not. NONE: no proration, the full amount is due as soon as
    the intervals touch.
    """

    NONE = "none"
    DAY = "day"
    SECOND = "second"


def share(
    *,
    start: datetime,
    end: datetime,
    period_start: datetime,
    period_end: datetime,
    mode: Proration,
) -> Fraction:
    """Part of `[period_start, period_end)` that `[start, end)` covers: exact, from 0 to 1."""
    if period_end <= period_start:
        raise InvalidPeriod("the period must end after it starts", path="periodEnd")
    if end < start:
        raise InvalidPeriod("must not be before the start", path="endDate")
    start, end = max(start, period_start), min(end, period_end)
    if end <= start:
        return Fraction(0)
    if mode is Proration.NONE:
        return Fraction(1)
    whole = _length(period_start, period_end, mode)
    if not whole:
        raise InvalidPeriod("the period is shorter than a day", path="periodEnd")
    return Fraction(_length(start, end, mode), whole)


def prorate(
    amount: Decimal,
    *,
    start: datetime,
    end: datetime,
    period_start: datetime,
    period_end: datetime,
    mode: Proration,
) -> int:
    """Minor units due for `[start, end)` of a period that costs `amount`; rounded half up, once."""
    part = share(start=start, end=end, period_start=period_start, period_end=period_end, mode=mode)
    # Multiply before dividing: a third of 1.5 is exactly the tie 0.5.
    return half_up(divide(multiply(amount, Decimal(part.numerator)), Decimal(part.denominator)))


def _length(start: datetime, end: datetime, mode: Proration) -> int:
    if mode is Proration.DAY:
        return (end.astimezone(UTC).date() - start.astimezone(UTC).date()).days
    return (end - start) // _MICROSECOND
