"""The arithmetic of deltas: what is still to be said to Stripe, slice by slice. Pure.

A slice is a UTC day within period and mapping segment. Quantities are in units of the
metric; values in units at Stripe: ``unit_factor`` of the former make one of the latter,
cut to ``decimals``. What makes no whole step is carried, never dropped:
``sum(deltas) * unit_factor + carry == total`` with ``0 <= carry < step``.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_DOWN, ROUND_FLOOR, Context, Decimal, localcontext
from uuid import UUID

from stripemeter.lib.decimals import EXACT, digits_and_decimals, exact_sum
from stripemeter.lib.periods import Period

#: Stripe, since API version 2026-04-22.dahlia.
DIGITS_MAX = 15
VALUE_MAX = Decimal(10) ** DIGITS_MAX - 1
#: Stripe takes timestamps of the past 35 days; a day is kept back because an intent may be
#: sent again for up to 23 hours under the same timestamp.
STAMP_AGE_MAX = timedelta(days=34)
#: Stripe takes timestamps up to five minutes ahead.
STAMP_AHEAD_MAX = timedelta(minutes=4)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
IDENTIFIER_CHARS_MAX = 100
_MIXED = (
    "a billing period starts or ends inside a {} that the meter counts as one. Let periods start"
    " at {}, or use increment with a meter that counts no windows."
)
_READABLE_REF = re.compile(r"[A-Za-z0-9_.]{1,32}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Step:
    """The smallest thing that can be sent: ``10^-decimals`` units of ``unit_factor`` each."""

    unit_factor: Decimal = Decimal(1)
    decimals: int = 12

    @property
    def size(self) -> Decimal:
        """One step in units at Stripe."""
        return Decimal(1).scaleb(-self.decimals)

    def floor(self, quantity: Decimal) -> Decimal:
        """The largest sendable value not above ``quantity``."""
        return self._steps(quantity, ROUND_FLOOR)

    def truncated(self, quantity: Decimal) -> Decimal:
        """The sendable value next to ``quantity`` on the side of zero."""
        return self._steps(quantity, ROUND_DOWN)

    def _steps(self, quantity: Decimal, rounding: str) -> Decimal:
        with localcontext(EXACT):
            quotient, rest = divmod(quantity, self.unit_factor * self.size)
            if rounding == ROUND_FLOOR and rest < 0:
                quotient -= 1
            return quotient * self.size

    def quantity_of(self, value: Decimal) -> Decimal:
        """Units of the metric that ``value`` stands for."""
        with localcontext(EXACT):
            return value * self.unit_factor


@dataclass(frozen=True, slots=True)
class Delta:
    """One push to be: ``value`` is sent, ``delta`` is what it adds to the pushed total."""

    day: date
    value: Decimal
    delta: Decimal


@dataclass(frozen=True, slots=True)
class Deltas:
    """What one cursor has to say now."""

    members: list[Delta] = field(default_factory=list)
    #: Units of the metric that stay behind because they make no whole step.
    carry: Decimal = Decimal(0)
    #: False if more is to be said once these are settled (a value had too many digits).
    complete: bool = True
    #: Why nothing can be said.
    refusal: str | None = None


def fit(value: Decimal) -> Decimal:
    """``value`` cut towards zero to what Stripe takes: 15 digits, below 10^15."""
    if abs(value) > VALUE_MAX:
        return VALUE_MAX.copy_sign(value)
    digits, _ = digits_and_decimals(value)
    if digits <= DIGITS_MAX:
        return value
    return Context(prec=DIGITS_MAX, rounding=ROUND_DOWN).plus(value)


def increments(
    totals: Mapping[date, Decimal], intended: Mapping[date, Decimal], step: Step
) -> Deltas:
    """Signed increments per day, for totals that are sums over days.

    ``totals`` in units of the metric, ``intended`` (acknowledged and open) in units at
    Stripe. A day gets what it lacks in whole steps; steps that only the days together
    make go to the days with the largest rests. Decreases come first.
    """
    rests: dict[date, Decimal] = {}
    parts: dict[date, Decimal] = {}
    with localcontext(EXACT):
        for day in sorted({*totals, *intended}):
            rest = totals.get(day, Decimal(0)) - step.quantity_of(intended.get(day, Decimal(0)))
            parts[day] = step.truncated(rest)
            rests[day] = rest - step.quantity_of(parts[day])
        total = exact_sum(list(totals.values()))
        wanted = step.floor(total) - exact_sum(list(intended.values()))
        missing = wanted - exact_sum(list(parts.values()))
        direction = step.size.copy_sign(missing) if missing else Decimal(0)

        def turn(day: date) -> tuple[bool, Decimal, date]:
            # Shortening a part that is said anyway spares a correction elsewhere.
            lengthens = parts[day] * missing >= 0
            return lengthens, -rests[day] if missing > 0 else rests[day], day

        # Each rest is below one step, so fewer steps are missing than there are days.
        for day in sorted(parts, key=turn):
            if not missing:
                break
            parts[day] += direction
            missing -= direction
    deltas = [Delta(day, fit(part), fit(part)) for day, part in parts.items() if part]
    deltas.sort(key=lambda each: (each.delta > 0, each.day))
    complete = all(each.delta == parts[each.day] for each in deltas)
    return Deltas(deltas, total - step.quantity_of(step.floor(total)), complete)


def level_increment(total: Decimal, intended: Decimal, step: Step, day: date) -> Deltas:
    """The change of a running maximum, last value or unique count, in the day of the push."""
    wanted = step.floor(total)
    with localcontext(EXACT):
        change = wanted - intended
        carry = total - step.quantity_of(wanted)
    if not change:
        return Deltas(carry=carry)
    part = fit(change)
    return Deltas([Delta(day, part, part)], carry, complete=part == change)


def level(total: Decimal, intended: Decimal, step: Step, day: date) -> Deltas:
    """The absolute level for a last meter, if it moved."""
    wanted = step.floor(total)
    value = fit(wanted)
    if abs(wanted) > VALUE_MAX:
        return Deltas(refusal=f"a level of {wanted} has more digits than Stripe takes")
    with localcontext(EXACT):
        change = value - intended
        carry = total - step.quantity_of(value)
    if not change:
        return Deltas(carry=carry)
    return Deltas([Delta(day, value, change)], carry)


def window_totals(
    totals: Mapping[date, Decimal],
    intended: Mapping[date, Decimal],
    step: Step,
    *,
    negative_allowed: bool = True,
) -> Deltas:
    """Absolute totals per day, for those days whose total moved.

    Steps are cut from the running sum over the days, so their sum loses nothing.
    """
    deltas: list[Delta] = []
    running = before = Decimal(0)
    for day in sorted({*totals, *intended}):
        with localcontext(EXACT):
            running += totals.get(day, Decimal(0))
            value = step.floor(running) - before
            before += value
            change = value - intended.get(day, Decimal(0))
        if not change:
            continue
        if fit(value) != value:
            return Deltas(refusal=f"a daily total of {value} has more digits than Stripe takes")
        if value < 0 and not negative_allowed:
            return Deltas(refusal="legacy usage records take no negative quantity")
        deltas.append(Delta(day, value, change))
    deltas.sort(key=lambda each: (each.delta > 0, each.day))
    with localcontext(EXACT):
        return Deltas(deltas, running - step.quantity_of(before))


def single_events(
    totals: Mapping[date, Decimal], intended: Mapping[date, Decimal], *, at_most: int
) -> Deltas:
    """One event per missing unit, for count meters; ``at_most`` in one go."""
    found = increments(totals, intended, Step(decimals=0))
    if any(each.delta < 0 for each in found.members):
        return Deltas(refusal="a count meter takes no corrections downwards")
    singles: list[Delta] = []
    for each in found.members:
        room = at_most - len(singles)
        singles += [Delta(each.day, Decimal(1), Decimal(1))] * min(room, int(each.delta))
    complete = found.complete and len(singles) == sum(int(each.delta) for each in found.members)
    return Deltas(singles, found.carry, complete)


@dataclass(frozen=True, slots=True)
class Stamp:
    """When a push says its usage happened."""

    at: datetime
    displaced: bool = False


def moment_day(period: Period, now: datetime) -> date:
    """The UTC day that a change of level is said in: today, or the period's last day."""
    return min(max(now, period.start), period.end - timedelta(microseconds=1)).date()


def stamp(day: date, *, bounds: Period, now: datetime) -> Stamp | None:
    """The timestamp of a slice within ``bounds`` (period and segment); None if there is none.

    Whole seconds, inside the slice, not in the future and young enough for Stripe. A
    slice that Stripe no longer takes is stamped inside the oldest part of the same
    bounds that it does (displaced). None: all of it is too old, or it has not begun.
    """
    midnight = datetime.combine(day, time(), tzinfo=UTC)
    start = _whole_second_from(max(midnight, bounds.start))
    last = _whole_second_before(min(midnight + DAY, bounds.end))
    oldest = _whole_second_from(now - STAMP_AGE_MAX)
    newest = now.replace(microsecond=0)
    at = min(last, max(newest, start))
    if at > newest + STAMP_AHEAD_MAX or last < start:
        return None
    if at >= oldest:
        return Stamp(at)
    last_of_bounds = min(_whole_second_before(bounds.end), newest)
    return Stamp(oldest, displaced=True) if oldest <= last_of_bounds else None


def first_stamp(day: date, *, bounds: Period, now: datetime) -> Stamp | None:
    """The start of the slice's first whole hour: the same instant at every planning.

    None if Stripe takes it no more, or it has not begun, or no hour lies in the slice whole.
    """
    start = _whole_hour(day, bounds)
    if start is None or start < now - STAMP_AGE_MAX or start > now:
        return None
    return Stamp(start)


def set_stamp(day: date, *, bounds: Period, now: datetime) -> Stamp | None:
    """The slice's second second: the same instant at every planning, however old the slice.

    A legacy usage record replaces what was set at its own instant only, so a total that is
    said at another instant is added. Stripe wants it after the period's start; its 35 days
    are a rule of meters. None if the slice has not begun, or lies outside ``bounds``.
    """
    midnight = datetime.combine(day, time(), tzinfo=UTC)
    start = _whole_second_from(max(midnight, bounds.start))
    last = _whole_second_before(min(midnight + DAY, bounds.end))
    at = min(start + SECOND, last)
    return Stamp(at) if start <= last and at <= now else None


def _whole_hour(day: date, bounds: Period) -> datetime | None:
    """The first hour of the UTC clock that lies in ``day`` and ``bounds`` as a whole."""
    midnight = datetime.combine(day, time(), tzinfo=UTC)
    start = max(midnight, bounds.start)
    hour = start.replace(minute=0, second=0, microsecond=0)
    hour += HOUR if hour < start else timedelta(0)
    return hour if hour + HOUR <= min(midnight + DAY, bounds.end) else None


def window_refusal(semantics: str, period: Period) -> str | None:
    """Why a meter that counts windows cannot tell ``period`` from its neighbours; None if it can.

    Stripe keeps one value per UTC day or hour, so a window must lie in one period whole.
    """
    if semantics == "window_total":
        whole = all(i.astimezone(UTC).time() == time() for i in (period.start, period.end))
        return None if whole else _MIXED.format("UTC day", "midnight UTC")
    if semantics == "hour_total":
        days = {period.start.date(), (period.end - timedelta(microseconds=1)).date()}
        whole = all(_whole_hour(day, period) is not None for day in days)
        return None if whole else _MIXED.format("hour", "a full hour")
    return None


def _whole_second_from(instant: datetime) -> datetime:
    cut = instant.replace(microsecond=0)
    return cut if cut == instant else cut + SECOND


def _whole_second_before(instant: datetime) -> datetime:
    cut = instant.replace(microsecond=0)
    return cut - SECOND if cut == instant else cut


def identifier(
    *,
    mode: str,
    mapping_id: UUID,
    customer_ref: str,
    period_start: datetime,
    day: date,
    sequence: int,
) -> str:
    """The name of a push at Stripe: at most 100 plain characters, never minted twice.

    The sequence makes it unique within its cursor; amounts have no part in it, so a
    total that goes 5, 3, 5 has three names. Long or odd references enter as a digest.
    """
    if _READABLE_REF.fullmatch(customer_ref):
        customer = customer_ref
    else:
        customer = "~" + hashlib.sha256(customer_ref.encode()).hexdigest()[:31]
    name = f"{mode}-{mapping_id.hex}-{customer}-{period_start:%y%m%d%H%M%S}-{day:%m%d}-{sequence}"
    assert len(name) <= IDENTIFIER_CHARS_MAX
    return name
