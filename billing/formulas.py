"""Which local totals can become which kind of Stripe usage, and why others cannot.

Stripe's meters know ``sum``, ``count`` and ``last`` (docs.stripe.com, meters/configure);
there is no ``max``. A sum meter adds what it is sent, so it gets signed increments of the
running total whatever that total is. A last meter gets absolute levels. Pure.
"""

from typing import Any

#: Totals that are sums over UTC days; the others are levels of the whole period.
ADDITIVE = frozenset({"sum", "count"})
#: Semantics whose pushes say the whole amount, so that repeating one is harmless.
ABSOLUTE = frozenset({"level", "window_total", "hour_total", "usage_record"})
#: Totals of a window, of which the last received one counts: a slice keeps to its own window.
WINDOWED = frozenset({"window_total", "hour_total"})

_ALLOWED = {
    "increment": frozenset({"sum", "count", "max", "min", "last", "unique"}),
    "level": frozenset({"sum", "count", "max", "min", "last", "unique"}),
    "event_count": frozenset({"count", "unique"}),
    "window_total": ADDITIVE,
    "hour_total": ADDITIVE,
    "usage_record": ADDITIVE,
}
_REASONS = {
    "event_count": (
        "a count meter ignores values and takes no corrections: it can only be fed by count"
        " or unique, one event per unit. Use a sum meter with increment."
    ),
    "window_total": (
        "a daily window needs a total per UTC day, which only sum and count have."
        " Use increment or level."
    ),
    "hour_total": (
        "an hourly window is fed with totals per UTC day, which only sum and count have."
        " Use increment or level."
    ),
    "usage_record": (
        "legacy usage records are set per UTC day, and only sum and count have daily totals."
        " Use a billing meter with increment or level."
    ),
}
#: Formula and window of the meter that each semantics feeds; legacy usage records have none.
#: Any other adds up something else than was said (docs.stripe.com, meters/configure).
_FEEDS: dict[str, tuple[str, str | None]] = {
    "increment": ("sum", None),
    "level": ("last", None),
    "event_count": ("count", None),
    "window_total": ("sum", "day"),
    "hour_total": ("sum", "hour"),
}


def is_additive(aggregation: str) -> bool:
    """Whether totals of UTC days add up to the period's total."""
    return aggregation in ADDITIVE


def refusal(aggregation: str, semantics: str) -> str | None:
    """Why ``aggregation`` cannot be billed with ``semantics``; None if it can."""
    allowed = _ALLOWED.get(semantics)
    if allowed is None:
        return f"unknown push semantics {semantics!r}"
    if aggregation in allowed:
        return None
    return _REASONS.get(semantics, f"{aggregation} cannot be billed")


def steps_refusal(semantics: str, value_decimals: int) -> str | None:
    """Why values with ``value_decimals`` decimals do not fit ``semantics``; None if they do."""
    if semantics in {"event_count", "usage_record"} and value_decimals:
        return f"{semantics} counts whole units: valueDecimals must be 0"
    return None


def has_meter(semantics: str) -> bool:
    """Whether a meter takes what is sent; legacy usage records go to a subscription item."""
    return semantics in _FEEDS


def meter_refusal(semantics: str, meter: dict[str, Any]) -> str | None:
    """Why ``meter``, as Stripe shows it, cannot take what is sent; None if it can."""
    if not has_meter(semantics):
        return None
    formula, window = _FEEDS[semantics]
    aggregation = meter.get("default_aggregation") or {}
    found = str(aggregation.get("formula")), meter.get("event_time_window")
    if found == (formula, window):
        return None
    is_now = f"{found[0]} with window {found[1]}" if found[1] else found[0]
    needs = f"{formula} with window {window}" if window else f"{formula} without a window"
    return f"the meter is {is_now}; {semantics} needs {needs}"
