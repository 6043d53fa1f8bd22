"""The asyncio client: the same calls, options and guarantees as the blocking one.

One client belongs to one event loop.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import date, datetime
from types import TracebackType
from typing import Any, Literal, Self

from stripemeter.sdk.base import ClientBase, Items, several, single
from stripemeter.sdk.delivery import Outcome, deliver
from stripemeter.sdk.encoding import Quantity
from stripemeter.sdk.errors import ClientClosed, StripeMeterError
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
from stripemeter.sdk.spool import Spool
from stripemeter.sdk.transport import (
    AsyncPause,
    AsyncTransport,
    BlockingTransport,
    async_pause_until,
)
from stripemeter.sdk.wire import attempt

SHORT_WAIT_S = 0.01
logger = logging.getLogger("stripemeter.sdk")


class AsyncStripeMeterClient(ClientBase):
    """Sends usage events and reads usage; a task flushes the buffer."""

    async def track(
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
        return single(await self._deliver_now([event]))

    async def track_batch(self, events: Items) -> IngestResult:
        """Send many events now, in requests of at most 1,000 events and 1 MiB.

        Refused events are in `result.errors`; the others are in the ledger. Raises
        `DeliveryFailed`, whose `events` can be passed here again, when some have no verdict.
        """
        return several(await self._deliver_now(self._make_all(events)))

    async def buffer(
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
        while self._queue.is_full:
            if self._on_full == "raise":
                raise self._full()
            self._ensure_worker()
            self._room.clear()
            await self._room.wait()
            if self._closing:
                raise ClientClosed("the client was closed while waiting for room")
        if self._spool is not None:
            await self._write_down(self._spool, event)
        self._queue.put(event, time.monotonic())
        self._ensure_worker()
        return event.idempotency_key

    async def flush(self) -> IngestResult | None:
        """Send what is in the buffer now; None when it is empty.

        Raises `DeliveryFailed` when events could not be delivered; these stay in the buffer.
        """
        outcomes: list[Outcome] = []
        self._interrupt.set()  # a background flush that is waiting to retry makes way
        async with self._sending:
            self._interrupt.clear()
            left = self.pending
            while left > 0 and (outcome := await self._deliver_queued(self._shut)):
                outcomes.append(outcome)
                left = 0 if outcome.error else left - len(outcome.events)
        return self._flushed(outcomes)

    async def get_usage(self, customer_ref: str | None = None) -> Usage:
        """Return the customer's exact usage in the current period."""
        request = self._usage_request(customer_ref)
        return await self._transport.run(
            attempt(request, self._policy, read_usage), self._pause_for(self._shut)
        )

    async def get_projection(
        self,
        customer_ref: str | None = None,
        period_start: date | str | None = None,
        period_end: date | str | None = None,
    ) -> Projection:
        """Return what the period costs the customer; the current period by default."""
        request = self._projection_request(customer_ref, period_start, period_end)
        return await self._transport.run(
            attempt(request, self._policy, read_projection), self._pause_for(self._shut)
        )

    async def get_history(
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
        return await self._transport.run(
            attempt(request, self._policy, read_history), self._pause_for(self._shut)
        )

    async def close(self, timeout: float | None = None) -> None:
        """Deliver the buffer, for at most `timeout` seconds, and let go of everything.

        Raises `DeliveryFailed` with the events that are left; with a spool they stay on disk
        instead and are sent at the next start. A second call does nothing.
        """
        if self._closing:
            return
        self._closing = True
        for event in (self._wake, self._room, self._interrupt, self._shut):
            event.set()
        deadline = time.monotonic() + (self._close_timeout if timeout is None else timeout)
        try:
            if self._worker is not None and self._worker is not asyncio.current_task():
                await asyncio.wait([self._worker], timeout=deadline - time.monotonic())
            while self._queue.reserved:  # a `buffer` call is writing to the spool
                await self._wait(self._room, SHORT_WAIT_S)
            await self._drain_async(deadline)
        finally:
            await self._transport.close()
            failure = self._undelivered()
        if failure is not None:
            raise failure

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the client; see `close`."""
        await self.close()

    def _start(self) -> None:
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._interrupt = asyncio.Event()
        self._shut = asyncio.Event()
        self._sending = asyncio.Lock()
        self._worker: asyncio.Task[None] | None = None
        self._transport = AsyncTransport(
            self.api_url, self._headers, self._timeout, self._httpx_options
        )
        if len(self._queue):
            self._ensure_worker()

    def _close_at_exit(self) -> None:
        """Deliver what an event loop left behind; there is no loop any more, so block."""
        if self._closing:
            return
        self._closing = True
        with self._lock:
            self._queue.recall(time.monotonic())
        if len(self._queue):
            transport = BlockingTransport(self.api_url, self._headers, self._timeout, {})
            self._drain(transport, time.monotonic() + self._close_timeout)
            transport.close()
        self._report_lost(self._undelivered())

    async def _deliver_now(self, events: list[Event]) -> Outcome:
        outcome = Outcome(events)
        await self._transport.run(deliver(outcome, self._policy), self._pause_for(self._shut))
        self._report_all(outcome, background=False)
        return outcome

    async def _deliver_queued(self, stop: asyncio.Event) -> Outcome | None:
        """Send the oldest events of the buffer; the caller holds `_sending`."""
        batch = self._queue.take()
        if not batch:
            return None
        outcome = Outcome(batch)
        try:
            await self._transport.run(deliver(outcome, self._policy), self._pause_for(stop))
        finally:
            # Also when the task is cancelled: what has no verdict goes back, keys and all.
            self._conclude(outcome)
            self._room.set()
        return outcome

    async def _write_down(self, spool: Spool, event: Event) -> None:
        """Spool an event off the loop; a cancelled caller does not leave it half-taken."""
        self._queue.reserve()
        writing = asyncio.ensure_future(asyncio.to_thread(spool.append, [event]))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait([writing])
            if writing.exception() is None:
                self._queue.put(event, time.monotonic())
                self._ensure_worker()
            raise
        finally:
            self._queue.release()
            self._room.set()

    def _ensure_worker(self) -> None:
        """Start or wake the flush task when there is something for it to time or send."""
        if self._worker is None or self._worker.done():
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return  # made outside a loop: the first call inside one starts the task
            self._worker = loop.create_task(self._flush_in_background(), name="stripemeter-flush")
        elif len(self._queue) == 1 or self._queue.wait_s(time.monotonic()) == 0:
            self._wake.set()

    async def _flush_in_background(self) -> None:
        while not self._closing:
            wait = self._queue.wait_s(time.monotonic())
            if wait is None:
                return
            if wait > 0:
                self._wake.clear()
                await self._wait(self._wake, wait)
                continue
            await self._flush_quietly()

    async def _flush_quietly(self) -> None:
        try:
            async with self._sending:
                outcome = await self._deliver_queued(self._interrupt)
            if outcome is None:
                return
            failure: StripeMeterError | None = outcome.failure
            self._report_all(outcome, background=True)
        except Exception as error:  # the task must outlive any surprise
            logger.exception("flush.failed")
            failure = StripeMeterError(str(error))
        if failure is not None:
            self._queue.hold(time.monotonic(), self._policy, failure.retry_after)

    async def _drain_async(self, deadline: float) -> None:
        pause = async_pause_until(deadline)
        while batch := self._queue.take():
            outcome = Outcome(batch)
            try:
                await self._transport.run(deliver(outcome, self._policy), pause, deadline)
            finally:
                self._conclude(outcome)
            self._report_all(outcome, background=False)
            failure = outcome.failure
            if failure is None:
                continue
            if not failure.retryable or time.monotonic() >= deadline:
                logger.warning("buffer.drain_failed: %s", failure)
                return
            await pause(self._policy.pause(self._policy.attempts, failure.retry_after))

    def _pause_for(self, stop: asyncio.Event) -> AsyncPause:
        async def pause(seconds: float) -> bool:
            return await self._wait(stop, seconds)

        return pause

    @staticmethod
    async def _wait(event: asyncio.Event, seconds: float) -> bool:
        """Wait for the event; False when the time is over first."""
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
        return True


AsyncStripemeterClient = AsyncStripeMeterClient
