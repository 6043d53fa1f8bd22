"""The blocking client. Thread-safe; one per process is enough."""

import logging
import threading
import time
from collections.abc import Mapping
from datetime import date, datetime
from types import TracebackType
from typing import Any, Literal, Self

from stripemeter.sdk.base import ClientBase, Items, several, single
from stripemeter.sdk.delivery import Outcome, deliver
from stripemeter.sdk.encoding import Quantity
from stripemeter.sdk.errors import ClientClosed, DeliveryFailed, StripeMeterError
from stripemeter.sdk.events import Event
from stripemeter.sdk.reads import (
    HistoryQuery,
    Projection,
    Usage,
    UsageHistory,
    read_history,
    read_projection,
    read_usage,
)
from stripemeter.sdk.results import IngestResult
from stripemeter.sdk.transport import BlockingTransport
from stripemeter.sdk.wire import attempt

WORKER_IDLE_S = 60.0
logger = logging.getLogger("stripemeter.sdk")


class StripeMeterClient(ClientBase):
    """Sends usage events and reads usage; a daemon thread flushes the buffer."""

    def track(
        self,
        metric: str,
        customer_ref: str | None = None,
        quantity: Quantity = 1,
        resource_id: str | None = None,
        ts: datetime | str | None = None,
        meta: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> IngestResult:
        """Send one event now and return once it is durably in the ledger.

        Raises `InvalidEvent` before sending, `EventRejected` when the server refuses it, and
        `DeliveryFailed` (with the event, to send again) when its fate is unknown.
        """
        event = self._make(metric, customer_ref, quantity, resource_id, ts, meta, idempotency_key)
        return single(self._deliver_now([event]))

    def track_batch(self, events: Items) -> IngestResult:
        """Send many events now, in requests of at most 1,000 events and 1 MiB.

        Refused events are in `result.errors`; the others are in the ledger. Raises
        `DeliveryFailed`, whose `events` can be passed here again, when some have no verdict.
        """
        return several(self._deliver_now(self._make_all(events)))

    def buffer(
        self,
        metric: str,
        customer_ref: str | None = None,
        quantity: Quantity = 1,
        resource_id: str | None = None,
        ts: datetime | str | None = None,
        meta: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> str:
        """Take one event for the background flush and return its idempotency key.

        With a spool, the event is on disk when this returns. Raises `BufferFull` when
        `max_buffered` events are undelivered (or waits, with `on_full="block"`).
        """
        event = self._make(metric, customer_ref, quantity, resource_id, ts, meta, idempotency_key)
        with self._lock:
            while self._queue.is_full and not self._closing:
                if self._on_full == "raise":
                    raise self._full()
                self._room.wait()
            if self._closing:
                raise ClientClosed("the client is closed")
            self._queue.reserve()
        written = False
        try:
            if self._spool is not None:
                self._spool.append([event])
            written = True
        finally:
            with self._lock:
                self._queue.release()
                if written:
                    self._queue.put(event, time.monotonic())
                    self._ensure_worker()
                self._room.notify_all()
        return event.idempotency_key

    def flush(self) -> IngestResult | None:
        """Send what is in the buffer now; None when it is empty.

        Raises `DeliveryFailed` when events could not be delivered; these stay in the buffer.
        """
        outcomes: list[Outcome] = []
        self._interrupt.set()  # a background flush that is waiting to retry makes way
        with self._sending:
            self._interrupt.clear()
            left = self.pending
            while left > 0 and (outcome := self._deliver_queued(self._shut)):
                outcomes.append(outcome)
                left = 0 if outcome.error else left - len(outcome.events)
        return self._flushed(outcomes)

    def get_usage(self, customer_ref: str | None = None) -> Usage:
        """Return the customer's exact usage in the current period."""
        return self._transport.run(
            attempt(self._usage_request(customer_ref), self._policy, read_usage), self._shut.wait
        )

    def get_projection(
        self,
        customer_ref: str | None = None,
        period_start: date | str | None = None,
        period_end: date | str | None = None,
    ) -> Projection:
        """Return what the period costs the customer; the current period by default."""
        request = self._projection_request(customer_ref, period_start, period_end)
        return self._transport.run(attempt(request, self._policy, read_projection), self._shut.wait)

    def get_history(
        self,
        metric: str,
        customer_ref: str | None = None,
        *,
        period_start: datetime | str | None = None,
        period_end: datetime | str | None = None,
        step: Literal["day", "month"] | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        interval: Literal["minute", "hour", "day"] | None = None,
    ) -> UsageHistory:
        """Return usage over time, by periods or as a series (see `HistoryQuery`)."""
        query = HistoryQuery(period_start, period_end, step, since, until, interval)
        request = self._history_request(metric, customer_ref, query)
        return self._transport.run(attempt(request, self._policy, read_history), self._shut.wait)

    def close(self, timeout: float | None = None) -> None:
        """Deliver the buffer, for at most `timeout` seconds, and let go of everything.

        Raises `DeliveryFailed` with the events that are left; with a spool they stay on disk
        instead and are sent at the next start. A second call does nothing.
        """
        with self._lock:
            if self._closing:
                return
            self._closing = True
            self._work.notify_all()
            self._room.notify_all()
            worker = self._worker
        deadline = time.monotonic() + (self._close_timeout if timeout is None else timeout)
        self._interrupt.set()
        self._shut.set()
        try:
            if worker is not None and worker is not threading.current_thread():
                worker.join(max(0.0, deadline - time.monotonic()))
            with self._lock:
                while self._queue.reserved:  # a `buffer` call is writing to the spool
                    self._room.wait()
            self._drain(self._transport, deadline)
        finally:
            self._transport.close()
            failure = self._undelivered()
        if failure is not None:
            raise failure

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the client; see `close`."""
        self.close()

    def _start(self) -> None:
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._sending = threading.Lock()
        self._interrupt = threading.Event()
        self._shut = threading.Event()
        self._worker: threading.Thread | None = None
        self._transport = BlockingTransport(
            self.api_url, self._headers, self._timeout, self._httpx_options
        )
        with self._lock:
            if len(self._queue):
                self._ensure_worker()

    def _close_at_exit(self) -> None:
        try:
            self.close()
        except DeliveryFailed as failure:
            self._report_lost(failure)

    def _deliver_now(self, events: list[Event]) -> Outcome:
        outcome = Outcome(events)
        self._transport.run(deliver(outcome, self._policy), self._shut.wait)
        self._report_all(outcome, background=False)
        return outcome

    def _deliver_queued(self, stop: threading.Event) -> Outcome | None:
        """Send the oldest events of the buffer; the caller holds `_sending`."""
        with self._lock:
            batch = self._queue.take()
        if not batch:
            return None
        outcome = Outcome(batch)
        try:
            self._transport.run(deliver(outcome, self._policy), stop.wait)
        finally:
            self._conclude(outcome)
            with self._lock:
                self._room.notify_all()
        return outcome

    def _ensure_worker(self) -> None:
        """Start or wake the flush thread when there is something for it to time or send."""
        if self._worker is None and not self._closing:
            self._worker = threading.Thread(
                target=self._flush_in_background, name="stripemeter-flush", daemon=True
            )
            self._worker.start()
        elif len(self._queue) == 1 or self._queue.wait_s(time.monotonic()) == 0:
            self._work.notify()

    def _flush_in_background(self) -> None:
        while self._wait_for_work():
            try:
                with self._sending:
                    outcome = self._deliver_queued(self._interrupt)
                if outcome is None:
                    continue
                failure: StripeMeterError | None = outcome.failure
                self._report_all(outcome, background=True)
            except Exception as error:  # the thread must outlive any surprise
                logger.exception("flush.failed")
                failure = StripeMeterError(str(error))
            if failure is not None:
                with self._lock:
                    self._queue.hold(time.monotonic(), self._policy, failure.retry_after)

    def _wait_for_work(self) -> bool:
        """Wait until a flush is due; False when the thread should end."""
        with self._lock:
            while not self._closing:
                wait = self._queue.wait_s(time.monotonic())
                if wait == 0:
                    return True
                woken = self._work.wait(WORKER_IDLE_S if wait is None else wait)
                if not woken and wait is None and not len(self._queue):
                    break
            self._worker = None
            return False


StripemeterClient = StripeMeterClient
