"""RFC 3339 instants and ISO 8601 durations, read strictly.

Python's ``fromisoformat`` also takes week dates, the basic format and offsets with
seconds; those are refused here, since other readers would disagree on them.
"""

import re
from datetime import UTC, date, datetime, timedelta

_INSTANT = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
_FIELD = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_DURATION = re.compile(
    r"(-?)P(?:(\d{1,6})W|(?:(\d{1,6})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,6})S)?)?)",
    re.ASCII,
)
DURATION_DAYS_MAX = 3_660


class InvalidInstant(ValueError):
    """The text is not an instant, date or duration of the documented form."""


def parse_instant(text: object) -> datetime:
    """The UTC instant of RFC 3339 ``text``: date, time and offset are all required.

    Digits beyond the microsecond must be zero: they could not be kept. Leap seconds are
    refused. Raises `InvalidInstant`.
    """
    match = _INSTANT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise InvalidInstant(
            "must be an RFC 3339 instant with an offset, like 2026-01-31T12:00:00Z"
        )
    day, time, fraction, offset = match.groups()
    fraction = fraction or ""
    if fraction[6:].strip("0"):
        raise InvalidInstant("has more than six digits of seconds")
    zone = "+00:00" if offset in "Zz" else offset
    if int(zone[1:3]) > 23 or int(zone[4:6]) > 59:
        raise InvalidInstant("has an offset out of range")
    try:
        moment = datetime.fromisoformat(f"{day}T{time}.{fraction[:6].ljust(6, '0')}{zone}")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInstant("is not a real date and time") from error


def parse_field(written: str) -> datetime:
    """An instant in RFC 3339, or what a browser's date and time field gives, read as UTC.

    Raises `InvalidInstant`.
    """
    return parse_instant(f"{written}:00Z" if _FIELD.fullmatch(written) else written)


def parse_date(text: object) -> date:
    """The calendar date of ``YYYY-MM-DD``. Raises `InvalidInstant`."""
    if not (isinstance(text, str) and _DATE.fullmatch(text)):
        raise InvalidInstant("must be a date like 2026-01-31")
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidInstant("is not a real date") from error


def parse_duration(text: object) -> timedelta:
    """The signed ISO 8601 duration in weeks, days, hours, minutes, seconds (``-PT24H``).

    Years and months are refused: they have no fixed length. Raises `InvalidInstant`.
    """
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None or not any(match.groups()[1:]):
        raise InvalidInstant("must be an ISO 8601 duration such as -PT24H or -P7D")
    sign, weeks, days, hours, minutes, seconds = match.groups()
    length = timedelta(
        weeks=int(weeks or 0),
        days=int(days or 0),
        hours=int(hours or 0),
        minutes=int(minutes or 0),
        seconds=int(seconds or 0),
    )
    if length > timedelta(days=DURATION_DAYS_MAX):
        raise InvalidInstant(f"is longer than {DURATION_DAYS_MAX} days")
    return -length if sign else length


def rfc3339(instant: datetime) -> str:
    """``instant`` in UTC with ``Z``; fractions only when there are any."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
