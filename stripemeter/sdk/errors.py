"""Errors of the client. Every one of them is a `StripeMeterError`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stripemeter.sdk.events import Event
    from stripemeter.sdk.results import IngestResult


class StripeMeterError(Exception):
    """Something the server refused, or that could not be delivered.

    `status_code` is the HTTP status (None when no answer came), `data` the decoded body,
    `code` and `request_id` the server's own words for support, `retry_after` seconds.
    `retryable` says that the same events may be sent again with the same keys.
    """

    def __init__(
        self,
        message: str,
        status_code: int | None = None,
        data: Any = None,
        *,
        retryable: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.data = data
        self.retryable = retryable
        self.retry_after = retry_after
        fields = data if isinstance(data, dict) else {}
        self.code: str | None = _text(fields.get("code"))
        self.request_id: str | None = _text(fields.get("requestId"))


class InvalidEvent(StripeMeterError, ValueError):
    """The event cannot be sent as it was given; nothing was buffered or sent."""


class BufferFull(StripeMeterError):
    """The buffer holds `max_buffered` undelivered events; this one was not taken."""


class ClientClosed(StripeMeterError):
    """The client was closed before this call."""


class DeliveryFailed(StripeMeterError):
    """Events whose fate is unknown or that were not taken, kept in `events` with their keys.

    Pass `events` to `track_batch` to try again: the keys are the same, so nothing is counted
    twice. `result` holds the answers for the events of the same call that did get through.
    """

    def __init__(
        self,
        message: str,
        status_code: int | None = None,
        data: Any = None,
        *,
        retryable: bool = True,
        retry_after: float | None = None,
        events: "Sequence[Event]" = (),
        result: "IngestResult | None" = None,
    ) -> None:
        super().__init__(message, status_code, data, retryable=retryable, retry_after=retry_after)
        self.events: tuple[Event, ...] = tuple(events)
        self.result = result


class EventRejected(StripeMeterError):
    """The server will never take this event as it is; it was dropped and reported."""


class EventConflict(StripeMeterError):
    """The key is in the ledger with another payload; the ledger keeps the first one."""


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
