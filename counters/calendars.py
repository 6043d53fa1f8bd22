"""How time is cut into billing periods. Pure: no database, no clock.

Boundaries are counted from the anchor, never from the previous boundary, so a 31st that was
clamped to a short month comes back (Stripe: a subscription anchored on 31 January renews on
28 or 29 February, then on 31 March). They are counted in the wall time of the calendar's zone:
a boundary inside a spring gap moves forward by the gap, one inside an autumn overlap is the
first of the two. Periods tile: each ends where the next begins.
"""

from bisect import bisect_right
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from stripemeter.lib.periods import Period, utc_month

#: The longest period of each unit: three years, as for Stripe's recurring prices.
INTERVAL_COUNT_MAX = {"day": 366, "week": 156, "month": 36, "year": 3}
LONGEST_PERIOD = timedelta(days=1_097)
PERIODS_MAX = 5_000
_DAYS = {"day": 1, "week": 7}
_MONTHS = {"month": 1, "year": 12}


@dataclass(frozen=True, slots=True)
class Calendar:
    """An anchor and a step: ``interval_count`` × ``interval`` in the wall time of ``zone``."""

    anchor: datetime
    interval: str = "month"
    interval_count: int = 1
    zone: str = "UTC"

    def boundary(self, number: int) -> datetime:
        """The instant, in UTC, at which period ``number`` begins; the anchor is number 0."""
        if number == 0:
            return self.anchor.astimezone(UTC)
        zone = ZoneInfo(self.zone)
        wall = self.anchor.astimezone(zone).replace(tzinfo=None, fold=0)
        steps = number * self.interval_count
        if self.interval in _DAYS:
            moved = wall + timedelta(days=steps * _DAYS[self.interval])
        else:
            months = wall.year * 12 + wall.month - 1 + steps * _MONTHS[self.interval]
            year, month = divmod(months, 12)
            day = min(wall.day, monthrange(year, month + 1)[1])
            moved = wall.replace(year=year, month=month + 1, day=day)
        return moved.replace(tzinfo=zone).astimezone(UTC)

    def number_of(self, instant: datetime) -> int:
        """The number of the period that holds ``instant``."""
        wall = self.anchor.astimezone(ZoneInfo(self.zone))
        there = instant.astimezone(ZoneInfo(self.zone))
        if self.interval in _DAYS:
            passed = (instant - self.anchor).days // _DAYS[self.interval]
        else:
            passed = (there.year - wall.year) * 12 + there.month - wall.month
            passed //= _MONTHS[self.interval]
        number = passed // self.interval_count
        while self.boundary(number) > instant:
            number -= 1
        while self.boundary(number + 1) <= instant:
            number += 1
        return number

    def period_of(self, instant: datetime) -> Period:
        """The period that holds ``instant``."""
        number = self.number_of(instant)
        return Period(self.boundary(number), self.boundary(number + 1))


@dataclass(frozen=True, slots=True)
class Cut:
    """How the time of one customer is cut: by a calendar, around periods that are fixed.

    ``fixed`` are the periods that have left the state open, ascending: a change of calendar
    does not move them. Between two of them the calendar's periods are clipped, so all tile.
    """

    calendar: Calendar | None = None
    fixed: tuple[Period, ...] = ()

    def period_of(self, instant: datetime) -> Period:
        """The period that holds ``instant``: half-open, in UTC."""
        following = bisect_right(self.fixed, instant, key=lambda period: period.start)
        before = self.fixed[following - 1] if following else None
        if before is not None and instant in before:
            return before
        period = self.calendar.period_of(instant) if self.calendar else utc_month(instant)
        start, end = period.start, period.end
        if before is not None:
            start = max(start, before.end)
        if following < len(self.fixed):
            end = min(end, self.fixed[following].start)
        return Period(start, end)

    def periods(self, since: datetime, until: datetime) -> Iterator[Period]:
        """The periods that touch ``[since, until)``, ascending."""
        instant = since
        while instant < until:
            period = self.period_of(instant)
            yield period
            instant = period.end
