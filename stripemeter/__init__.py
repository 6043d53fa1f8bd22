"""StripeMeter: exact usage metering in front of Stripe.

The server and the client SDK share this package, so importing it must stay free: the names
below are resolved on first use (PEP 562), and neither httpx nor Django is loaded before that.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stripemeter.sdk import (
        AsyncStripeMeterClient,
        AsyncStripemeterClient,
        BufferFull,
        ClientClosed,
        DeliveryFailed,
        Event,
        EventConflict,
        EventRejected,
        EventResult,
        HistoryPoint,
        IngestResult,
        InvalidEvent,
        LineItem,
        MetricUsage,
        Projection,
        StripeMeterClient,
        StripemeterClient,
        StripeMeterError,
        StripemeterError,
        Usage,
        UsageHistory,
    )

__version__ = "1.0.0"

__all__ = [
    "AsyncStripeMeterClient",
    "AsyncStripemeterClient",
    "BufferFull",
    "ClientClosed",
    "DeliveryFailed",
    "Event",
    "EventConflict",
    "EventRejected",
    "EventResult",
    "HistoryPoint",
    "IngestResult",
    "InvalidEvent",
    "LineItem",
    "MetricUsage",
    "Projection",
    "StripeMeterClient",
    "StripeMeterError",
    "StripemeterClient",
    "StripemeterError",
    "Usage",
    "UsageHistory",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Resolve a public client name on first use, from `stripemeter.sdk`."""
    if name in __all__:
        return getattr(import_module("stripemeter.sdk"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the lazy names too, for completion in a shell."""
    return sorted({*globals(), *__all__})
