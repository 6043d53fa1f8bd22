"""Billing periods from an anchor, as Stripe counts them (UTC, half-open).

An anchor on day 29 to 31 is cut to the last day of shorter months and comes
back after them: 31 January, 28 February, 31 March.
"""

from __future__ import annotations

import calendar
from datetime import UTC, datetime

FIXED_SECONDS = {"day": 86_400, "week": 7 * 86_400}
MONTHS = {"month": 1, "year": 12}


def boundary(anchor: int, interval: str, count: int, number: int) -> int:
    """Returns the boundary `number` periods after the anchor (negative: before)."""
    if interval in FIXED_SECONDS:
        return anchor + number * count * FIXED_SECONDS[interval]
    start = datetime.fromtimestamp(anchor, UTC)
    months = start.year * 12 + start.month - 1 + number * count * MONTHS[interval]
    year, month = divmod(months, 12)
    last_day = calendar.monthrange(year, month + 1)[1]
    moment = start.replace(year=year, month=month + 1, day=min(start.day, last_day))
    return int(moment.timestamp())


def period_at(anchor: int, interval: str, count: int, moment: int) -> tuple[int, int]:
    """Returns the period [start, end) that holds the moment."""
    if interval in FIXED_SECONDS:
        number = (moment - anchor) // (count * FIXED_SECONDS[interval])
    else:
        begin, now = datetime.fromtimestamp(anchor, UTC), datetime.fromtimestamp(moment, UTC)
        months = (now.year - begin.year) * 12 + now.month - begin.month
        number = months // (count * MONTHS[interval])
    while boundary(anchor, interval, count, number) > moment:
        number -= 1
    while boundary(anchor, interval, count, number + 1) <= moment:
        number += 1
    return (
        boundary(anchor, interval, count, number),
        boundary(anchor, interval, count, number + 1),
    )


def anchor_from_config(config: dict[str, int], moment: int) -> int:
    """Returns the first moment after `moment` that fits `billing_cycle_anchor_config`."""
    begin = datetime.fromtimestamp(moment, UTC)
    for ahead in range(13):
        year, month = divmod(begin.year * 12 + begin.month - 1 + ahead, 12)
        if "month" in config and config["month"] != month + 1:
            continue
        last_day = calendar.monthrange(year, month + 1)[1]
        candidate = begin.replace(
            year=year,
            month=month + 1,
            day=min(config["day_of_month"], last_day),
            hour=config.get("hour", begin.hour),
            minute=config.get("minute", begin.minute),
            second=config.get("second", begin.second),
            microsecond=0,
        )
        if candidate.timestamp() > moment:
            return int(candidate.timestamp())
    return moment
