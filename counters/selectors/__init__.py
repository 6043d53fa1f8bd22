"""Every read of the counters that spans rows."""

from counters.selectors.periods import period_of, period_state
from counters.selectors.usage import (
    MetricUsage,
    counter_total,
    current_usage,
    slice_totals,
)

__all__ = [
    "MetricUsage",
    "counter_total",
    "current_usage",
    "period_of",
    "period_state",
    "slice_totals",
]
