"""Carrying out requests with httpx: one driver that blocks, one for asyncio. No policy here."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import httpx

from stripemeter.sdk.wire import Happened, NoReply, Reply, Send, Steps, Waited

T = TypeVar("T")
SHORTEST_TIMEOUT_S = 0.05

BlockingPause = Callable[[float], bool]
AsyncPause = Callable[[float], Awaitable[bool]]


class BlockingTransport:
    """httpx.Client as the driver of a generator. Safe to share between threads."""

    def __init__(
        self, api_url: str, headers: Mapping[str, str], timeout: float, options: Mapping[str, Any]
    ) -> None:
        self._timeout = timeout
        self._http = httpx.Client(base_url=api_url, headers=dict(headers), **options)

    def run(self, steps: Steps[T], pause: BlockingPause, deadline: float | None = None) -> T:
        """Drive `steps` to its end. `pause` waits and says whether it was cut short."""
        try:
            step = next(steps)
            while True:
                happened: Happened
                if isinstance(step, Send):
                    happened = self._send(step, deadline)
                else:
                    happened = Waited(cut_short=pause(step.seconds))
                step = steps.send(happened)
        except StopIteration as done:
            value: T = done.value
            return value

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _send(self, request: Send, deadline: float | None) -> Reply | NoReply:
        try:
            response = self._http.request(
                request.method,
                request.path,
                params=dict(request.params),
                content=request.content,
                headers=_body_headers(request),
                timeout=_timeout(self._timeout, deadline),
            )
            return Reply(response.status_code, response.headers, response.content)
        except httpx.RequestError as error:
            return NoReply(_reason(error))


class AsyncTransport:
    """httpx.AsyncClient as the driver of a generator, within one event loop."""

    def __init__(
        self, api_url: str, headers: Mapping[str, str], timeout: float, options: Mapping[str, Any]
    ) -> None:
        self._timeout = timeout
        self._http = httpx.AsyncClient(base_url=api_url, headers=dict(headers), **options)

    async def run(self, steps: Steps[T], pause: AsyncPause, deadline: float | None = None) -> T:
        """Drive `steps` to its end. `pause` waits and says whether it was cut short."""
        try:
            step = next(steps)
            while True:
                happened: Happened
                if isinstance(step, Send):
                    happened = await self._send(step, deadline)
                else:
                    happened = Waited(cut_short=await pause(step.seconds))
                step = steps.send(happened)
        except StopIteration as done:
            value: T = done.value
            return value

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _send(self, request: Send, deadline: float | None) -> Reply | NoReply:
        try:
            response = await self._http.request(
                request.method,
                request.path,
                params=dict(request.params),
                content=request.content,
                headers=_body_headers(request),
                timeout=_timeout(self._timeout, deadline),
            )
            return Reply(response.status_code, response.headers, response.content)
        except httpx.RequestError as error:
            return NoReply(_reason(error))


def pause_until(deadline: float) -> BlockingPause:
    """Return a pause that sleeps, but not past `deadline` (monotonic seconds)."""

    def pause(seconds: float) -> bool:
        time.sleep(max(0.0, min(seconds, deadline - time.monotonic())))
        return time.monotonic() >= deadline

    return pause


def async_pause_until(deadline: float) -> AsyncPause:
    """Return the same for asyncio."""

    async def pause(seconds: float) -> bool:
        await asyncio.sleep(max(0.0, min(seconds, deadline - time.monotonic())))
        return time.monotonic() >= deadline

    return pause


def _body_headers(request: Send) -> dict[str, str]:
    return {} if request.content is None else {"content-type": "application/json"}


def _timeout(timeout: float, deadline: float | None) -> float:
    if deadline is None:
        return timeout
    return max(SHORTEST_TIMEOUT_S, min(timeout, deadline - time.monotonic()))


def _reason(error: httpx.RequestError) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
