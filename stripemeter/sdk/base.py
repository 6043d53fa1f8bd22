"""What both clients share: options, the making of events, and the book-keeping of their fates."""

import atexit
import json
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any, Literal
from urllib.parse import urlsplit

from stripemeter.sdk.delivery import REQUEST_EVENTS_MAX, Outcome, deliver
from stripemeter.sdk.encoding import Quantity
from stripemeter.sdk.errors import (
    BufferFull,
    ClientClosed,
    DeliveryFailed,
    EventRejected,
    InvalidEvent,
    StripeMeterError,
)
from stripemeter.sdk.events import Event, EventInput, event_of
from stripemeter.sdk.queue import EventQueue
from stripemeter.sdk.reads import (
    HistoryQuery,
    history_request,
    projection_body,
    usage_request,
)
from stripemeter.sdk.results import IngestResult, merge
from stripemeter.sdk.retry import RetryPolicy
from stripemeter.sdk.spool import Spool
from stripemeter.sdk.transport import BlockingTransport, pause_until
from stripemeter.sdk.wire import Send

VERSION = "1.0.0"
logger = logging.getLogger("stripemeter.sdk")

ErrorCallback = Callable[[StripeMeterError, Sequence[Event]], None]
_live: "weakref.WeakSet[ClientBase]" = weakref.WeakSet()
Items = Iterable[Event | EventInput | Mapping[str, Any]]


class ClientBase:
    """Options and state; `StripeMeterClient` and `AsyncStripeMeterClient` do the input/output."""

    def __init__(
        self,
        api_url: str,
        tenant_id: str,
        customer_id: str | None = None,
        api_key: str | None = None,
        timeout: float = 10.0,
        retry_attempts: int = 3,
        batch_size: int = 100,
        *,
        flush_interval: float = 5.0,
        max_buffered: int = 10_000,
        on_full: Literal["raise", "block"] = "raise",
        on_error: ErrorCallback | None = None,
        spool_dir: str | os.PathLike[str] | None = None,
        spool_fsync: bool = True,
        close_timeout: float = 10.0,
        retry_policy: RetryPolicy | None = None,
        httpx_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Make a client; nothing is sent yet.

        `customer_id` is the customer of calls that name none. `timeout` (seconds) is for one
        request, `retry_attempts` the tries after the first. Buffered events are sent when
        `batch_size` wait or the oldest has waited `flush_interval` seconds. At most
        `max_buffered` undelivered events are held; then `buffer` raises `BufferFull`, or waits
        with `on_full="block"`. `on_error(error, events)` hears of every event that did not get
        through (without it, the log does). `spool_dir` keeps buffered events on disk.
        `close_timeout` bounds the last flush. `httpx_options` go to the httpx client (proxy,
        verify, transport). Raises `ValueError` for options that make no sense.
        """
        self._check(api_url, tenant_id, timeout, retry_attempts, batch_size, max_buffered, on_full)
        self.api_url = api_url.rstrip("/")
        self.tenant_id = tenant_id
        self.customer_id = customer_id
        self._headers = {
            "accept": "application/json",
            "user-agent": f"stripemeter-python/{VERSION}",
        }
        if api_key is not None:
            self._headers["authorization"] = f"Bearer {api_key}"
        self._timeout = timeout
        self._policy = replace(retry_policy or RetryPolicy(), attempts=retry_attempts)
        self._on_full = on_full
        self._on_error = on_error
        self._close_timeout = close_timeout
        self._httpx_options = dict(httpx_options or {})
        self._queue_shape = (batch_size, flush_interval, max_buffered)
        self._queue = EventQueue(*self._queue_shape)
        self._lock = threading.RLock()
        self._closing = False
        self._spool = None if spool_dir is None else Spool(spool_dir, fsync=spool_fsync)
        self._adopt()
        self._start()
        _live.add(self)

    def _start(self) -> None:
        """Make what belongs to one process: connections, locks, background work."""
        raise NotImplementedError

    def _close_at_exit(self) -> None:
        """Deliver what is left when the interpreter ends."""
        raise NotImplementedError

    def _after_fork(self) -> None:
        """In a forked child: the parent delivers its own buffer; start with an empty one."""
        if self._closing:
            return
        self._lock = threading.RLock()
        self._queue = EventQueue(*self._queue_shape)
        if self._spool is not None:
            self._spool.after_fork()
        self._start()

    @property
    def pending(self) -> int:
        """Events in the buffer, including those on their way, that have no verdict yet."""
        with self._lock:
            return len(self._queue)

    def __repr__(self) -> str:
        """Show where it points; never the key."""
        return f"{type(self).__name__}({self.api_url!r}, {self.tenant_id!r})"

    @staticmethod
    def _check(
        api_url: str,
        tenant_id: str,
        timeout: float,
        retry_attempts: int,
        batch_size: int,
        max_buffered: int,
        on_full: str,
    ) -> None:
        parts = urlsplit(api_url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError("api_url must be an http or https address")
        if not tenant_id:
            raise ValueError("tenant_id must be a non-empty string")
        if timeout <= 0 or retry_attempts < 0:
            raise ValueError("timeout must be positive and retry_attempts not negative")
        if not 1 <= batch_size <= REQUEST_EVENTS_MAX or max_buffered < batch_size:
            raise ValueError("1 <= batch_size <= 1000 and batch_size <= max_buffered must hold")
        if on_full not in ("raise", "block"):
            raise ValueError('on_full must be "raise" or "block"')

    def _adopt(self) -> None:
        """Put the events of crashed predecessors first; they may pass the bound."""
        if self._spool is None:
            return
        due = time.monotonic() - self._queue_shape[1]
        for event in self._spool.adopt():
            self._queue.put(event, due)

    def _make(
        self,
        metric: str,
        customer_ref: str | None,
        quantity: Quantity,
        resource_id: str | None,
        ts: datetime | str | None,
        meta: Mapping[str, Any] | None,
        idempotency_key: str | None,
    ) -> Event:
        fields: dict[str, Any] = {"metric": metric, "quantity": quantity, "ts": ts, "meta": meta}
        fields |= {"customer_ref": customer_ref, "resource_id": resource_id}
        return self._make_all([{**fields, "idempotency_key": idempotency_key}])[0]

    def _make_all(self, items: Items) -> list[Event]:
        if self._closing:
            raise ClientClosed("the client is closed")
        if isinstance(items, Mapping | str | bytes):
            raise InvalidEvent("events must be a list")
        defaults = {"tenant_id": self.tenant_id, "customer_ref": self.customer_id}
        return [event_of(item, **defaults) for item in items]

    def _conclude(self, outcome: Outcome) -> None:
        """Write down the fates of events that came from the buffer: in the spool, in the queue."""
        settled, unsent = outcome.settled, outcome.unsent
        try:
            if self._spool is not None and settled:
                for error, event in outcome.problems:
                    if isinstance(error, EventRejected):
                        self._spool.reject(event, error.message)
                self._spool.settle(settled)
        except (StripeMeterError, OSError) as error:
            # The events are delivered; at worst a later start sends duplicates.
            logger.warning("spool.note_failed: %s", error)
        finally:
            with self._lock:
                self._queue.settle(settled)
                self._queue.put_back(unsent, time.monotonic())

    def _report_all(self, outcome: Outcome, *, background: bool) -> None:
        """Tell `on_error` about refused events and, in the background, about the failure."""
        for error, event in outcome.problems:
            self._report(error, [event])
        failure = outcome.failure
        if background and failure is not None:
            self._report(failure, failure.events)

    def _report(self, error: StripeMeterError, events: Sequence[Event]) -> None:
        if self._on_error is None:
            logger.warning("event.delivery_failed: %s (%d events)", error, len(events))
            return
        try:
            self._on_error(error, events)
        except Exception:
            logger.exception("on_error raised")

    def _full(self) -> BufferFull:
        return BufferFull(
            f"the buffer holds {self.pending} undelivered events; this one was not taken",
            retryable=True,
        )

    def _drain(self, transport: BlockingTransport, deadline: float) -> None:
        """Deliver the whole buffer, trying until `deadline` (monotonic seconds)."""
        pause = pause_until(deadline)
        while True:
            with self._lock:
                batch = self._queue.take()
            if not batch:
                return
            outcome = Outcome(batch)
            try:
                transport.run(deliver(outcome, self._policy), pause, deadline)
            finally:
                self._conclude(outcome)
            self._report_all(outcome, background=False)
            failure = outcome.failure
            if failure is None:
                continue
            if not failure.retryable or time.monotonic() >= deadline:
                logger.warning("buffer.drain_failed: %s", failure)
                return
            pause(self._policy.pause(self._policy.attempts, failure.retry_after))

    def _flushed(self, outcomes: Sequence[Outcome]) -> IngestResult | None:
        """Report the outcomes of `flush` and return their result, or raise what stopped it."""
        for outcome in outcomes:
            self._report_all(outcome, background=False)
        if not outcomes:
            return None
        result = merge(outcome.result for outcome in outcomes)
        failure = outcomes[-1].failure
        if failure is not None:
            failure.result = result
            raise failure
        return result

    def _undelivered(self) -> DeliveryFailed | None:
        """After the last flush: what is left, unless the spool keeps it for the next start."""
        with self._lock:
            left = self._queue.everything()
        if self._spool is not None:
            self._spool.close()
        if not left:
            return None
        if self._spool is not None:
            logger.warning("spool.events_kept: %d events wait for the next start", len(left))
            return None
        return DeliveryFailed(f"closed with {len(left)} undelivered events", events=left)

    def _report_lost(self, failure: DeliveryFailed | None) -> None:
        """Say what the end of the process takes with it; `on_error` may still store it."""
        if failure is not None:
            logger.error("event.lost_at_exit: %s", failure)
            self._report(failure, failure.events)

    def _customer(self, customer_ref: str | None) -> str:
        chosen = self.customer_id if customer_ref is None else customer_ref
        if chosen is None:
            raise InvalidEvent("customer_ref is missing and the client has no customer_id")
        return chosen

    def _usage_request(self, customer_ref: str | None) -> Send:
        return usage_request(self.tenant_id, self._customer(customer_ref))

    def _projection_request(
        self,
        customer_ref: str | None,
        period_start: date | str | None,
        period_end: date | str | None,
    ) -> Send:
        customer = self._customer(customer_ref)
        body = projection_body(self.tenant_id, customer, period_start, period_end)
        return Send("POST", "/v1/usage/projection", content=json.dumps(body).encode())

    def _history_request(self, metric: str, customer_ref: str | None, query: HistoryQuery) -> Send:
        chosen = self.customer_id if customer_ref is None else customer_ref
        return history_request(self.tenant_id, metric, chosen, query)


def single(outcome: Outcome) -> IngestResult:
    """Return the result of `track`; raise when its one event was refused or not delivered."""
    if outcome.failure is not None:
        raise outcome.failure
    for error, _ in outcome.problems:
        if isinstance(error, EventRejected):
            raise error
    return outcome.result


def several(outcome: Outcome) -> IngestResult:
    """Return the result of `track_batch`; raise when events are left without a verdict."""
    if outcome.failure is not None:
        raise outcome.failure
    return outcome.result


def _flush_at_exit() -> None:
    for client in list(_live):
        client._close_at_exit()


def _reset_after_fork() -> None:
    for client in list(_live):
        client._after_fork()


atexit.register(_flush_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)
