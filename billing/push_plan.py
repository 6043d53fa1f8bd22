"""How many calls of Stripe pushing and reconciling cost. Pure.

Limits are Stripe's (docs.stripe.com/rate-limits): 1,000 meter events a second in live mode,
25 reads a second per endpoint, one summary read per customer and meter.
"""

from dataclasses import dataclass
from math import ceil

DAY_SECONDS = 86_400
READS_PER_SECOND = 25


@dataclass(frozen=True, slots=True)
class Plan:
    """A day's calls for one number of cursors and one interval."""

    cursors: int
    pushes_per_day: int
    calls_per_second: int
    calls_per_second_max: int
    shortest_interval_seconds: int
    reads_per_day: int
    reading_seconds: int


def plan(*, cursors: int, interval_seconds: int, calls_per_second: int) -> Plan:
    """The budget when every cursor moves in every interval: one call per cursor each time.

    A day's own slice is the only one that moves, so a cursor costs one call an interval.
    """
    intervals = DAY_SECONDS // interval_seconds
    return Plan(
        cursors=cursors,
        pushes_per_day=cursors * intervals,
        calls_per_second=ceil(cursors / interval_seconds),
        calls_per_second_max=calls_per_second,
        shortest_interval_seconds=max(1, ceil(cursors / calls_per_second)),
        reads_per_day=cursors,
        reading_seconds=ceil(cursors / READS_PER_SECOND),
    )
