"""Daily history as an evenly spaced series, and the values the forecasters exchange.

Statistics run on floats: a forecast is an estimate. What leaves the package is a Decimal,
rounded to the places of the data, and never mixes with a counter or an amount.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final

from billing.pricing.numbers import DIVIDING, EXACT

# Older days say little about the current period and cost time.
HISTORY_DAYS_MAX: Final = 400
# Periods longer than this are refused by `forecast`: nothing here predicts years.
PERIOD_DAYS_MAX: Final = 400
PLACES_MAX: Final = 6
DAY: Final = timedelta(days=1)


class Method(StrEnum):
    """How the rest of the period was estimated."""

    ACTUAL = "actual"
    NO_HISTORY = "no_history"
    RUN_RATE = "run_rate"
    RECENT_RATE = "recent_rate"
    WEEKDAY_PROFILE = "weekday_profile"
    DAMPED_TREND = "damped_trend"
    LAST_LEVEL = "last_level"


class Confidence(StrEnum):
    """How far a forecast can be leaned on; LOW comes with a note that says why."""

    EXACT = "exact"
    NORMAL = "normal"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class History:
    """Values of full days without gaps; `values[0]` is `first_day`. Days without usage are 0."""

    first_day: date
    values: tuple[float, ...]
    places: int

    @property
    def last_day(self) -> date:
        """The newest full day."""
        return self.first_day + DAY * (len(self.values) - 1)

    def weekday(self, index: int) -> int:
        """Weekday (Monday 0) of a position, also of one beyond the end."""
        return (self.first_day.weekday() + index) % 7

    def head(self, length: int) -> History:
        """The first `length` days."""
        return History(self.first_day, self.values[:length], self.places)


def history_of(daily: Mapping[date, Decimal], *, today: date) -> History:
    """The full days before `today`, from the first day with a value, gaps as zero.

    The current day is left out: it is not over. At most the newest 400 days are kept. An empty
    mapping gives an empty history.
    """
    past = [day for day in daily if day < today]
    places = min(PLACES_MAX, max((places_of(value) for value in daily.values()), default=0))
    if not past:
        return History(today, (), places)
    first = max(min(past), today - DAY * HISTORY_DAYS_MAX)
    days = (today - first).days
    values = tuple(float(daily.get(first + DAY * index, 0)) for index in range(days))
    return History(first, values, places)


def places_of(value: Decimal) -> int:
    """Decimals of a value that carry a digit."""
    exponent = value.normalize(EXACT).as_tuple().exponent
    return -exponent if isinstance(exponent, int) and exponent < 0 else 0


def utc_day(instant: datetime) -> date:
    """The UTC day of an aware instant."""
    return instant.astimezone(UTC).date()


def share_of_day_left(instant: datetime) -> float:
    """What is left of the instant's UTC day, from 1 (midnight) down to 0."""
    now = instant.astimezone(UTC)
    passed = now - now.replace(hour=0, minute=0, second=0, microsecond=0)
    return 1.0 - passed / DAY


def estimate(value: float, places: int) -> Decimal:
    """A float as a Decimal of at most `places` decimals: an estimate in the data's own grain."""
    return Decimal(repr(round(value, places))).quantize(
        Decimal(1).scaleb(-places), context=DIVIDING
    )
