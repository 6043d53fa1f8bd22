"""Half-open intervals of time, always UTC."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """``[start, end)`` in UTC: the start belongs to it, the end to the next one."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if not (self.start.tzinfo and self.end.tzinfo and self.start < self.end):
            raise ValueError("a period runs from one aware instant to a later one")

    def __contains__(self, instant: datetime) -> bool:
        return self.start <= instant < self.end

    @property
    def length(self) -> timedelta:
        """How long the period lasts."""
        return self.end - self.start


def utc_day_start(instant: datetime) -> datetime:
    """Midnight UTC of the day that ``instant`` lies in."""
    return instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def utc_month(instant: datetime) -> Period:
    """The UTC calendar month that ``instant`` lies in: the default billing period."""
    start = utc_day_start(instant).replace(day=1)
    if start.month == 12:
        return Period(start, start.replace(year=start.year + 1, month=1))
    return Period(start, start.replace(month=start.month + 1))
