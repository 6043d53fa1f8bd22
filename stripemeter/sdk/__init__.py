"""The StripeMeter client: usage events in, exact usage out. Depends on httpx only."""

from stripemeter.sdk.aio import AsyncStripeMeterClient, AsyncStripemeterClient
from stripemeter.sdk.client import StripeMeterClient, StripemeterClient
from stripemeter.sdk.errors import (
    BufferFull,
    ClientClosed,
    DeliveryFailed,
    EventConflict,
    EventRejected,
    InvalidEvent,
    StripeMeterError,
)
from stripemeter.sdk.events import Event, EventInput
from stripemeter.sdk.reads import (
    HistoryPoint,
    LineItem,
    MetricUsage,
    Projection,
    Usage,
    UsageHistory,
)
from stripemeter.sdk.results import EventResult, IngestResult
from stripemeter.sdk.retry import RetryPolicy

StripemeterError = StripeMeterError

__all__ = [
    "AsyncStripeMeterClient",
    "AsyncStripemeterClient",
    "BufferFull",
    "ClientClosed",
    "DeliveryFailed",
    "Event",
    "EventConflict",
    "EventInput",
    "EventRejected",
    "EventResult",
    "HistoryPoint",
    "IngestResult",
    "InvalidEvent",
    "LineItem",
    "MetricUsage",
    "Projection",
    "RetryPolicy",
    "StripeMeterClient",
    "StripeMeterError",
    "StripemeterClient",
    "StripemeterError",
    "Usage",
    "UsageHistory",
]
