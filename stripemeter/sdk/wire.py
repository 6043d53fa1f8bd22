"""Requests and answers as plain values, and the generator that tries one until it is settled.

Nothing here does input or output: a generator yields `Send` and `Pause`, a driver (blocking in
`client`, asyncio in `aio`) carries them out and sends back what happened. Both clients thus
share one behaviour, retry for retry.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from stripemeter.sdk.encoding import parse_json
from stripemeter.sdk.errors import DeliveryFailed, StripeMeterError
from stripemeter.sdk.retry import RetryPolicy, is_retryable, retry_after_seconds


@dataclass(frozen=True, slots=True)
class Send:
    """Make this request."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds, or until the wait is cut short."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer, read completely."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class NoReply:
    """No complete answer came: whether the request took effect is unknown."""

    reason: str


@dataclass(frozen=True, slots=True)
class Waited:
    """The pause is over; `cut_short` asks to stop trying now."""

    cut_short: bool = False


Step = Send | Pause
Happened = Reply | NoReply | Waited
T = TypeVar("T")
Steps = Generator[Step, Happened, T]


def attempt(request: Send, policy: RetryPolicy, read: Callable[[Reply], T]) -> Steps[T]:
    """Try one request until `read` takes the answer, the failure is final or patience ends.

    `read` returns the value or raises `StripeMeterError`, whose `retryable` decides. The error
    that ends the attempt is raised.
    """
    tried = 0
    while True:
        happened = yield request
        try:
            if isinstance(happened, Reply):
                return read(happened)
            reason = happened.reason if isinstance(happened, NoReply) else "no answer"
            raise DeliveryFailed(f"no answer from the server: {reason}")
        except StripeMeterError as error:
            if not error.retryable or policy.gives_up(tried, error.retry_after):
                raise
            pause = Pause(policy.pause(tried, error.retry_after))
            failure = error
        waited = yield pause
        if isinstance(waited, Waited) and waited.cut_short:
            raise failure
        tried += 1


def read_object(reply: Reply) -> dict[str, Any]:
    """Return the JSON object of a 2xx answer; raise for everything else.

    A 2xx whose body is no JSON object did not come from StripeMeter (a proxy, a captive
    portal): it acknowledges nothing and is tried again.
    """
    data = parse_json(reply.body)
    if 200 <= reply.status < 300:
        if isinstance(data, dict):
            return data
        raise DeliveryFailed("the answer is not a JSON object", reply.status, _excerpt(reply))
    raise failure_of(reply, data)


def failure_of(reply: Reply, data: Any) -> StripeMeterError:
    """Describe a non-2xx answer: the server's own words where it has some."""
    fields = data if isinstance(data, dict) else {}
    said = fields.get("detail") or fields.get("message") or fields.get("error")
    if not said:
        said = fields.get("title") or "no explanation"
    return StripeMeterError(
        f"HTTP {reply.status}: {said}",
        reply.status,
        data if data is not None else _excerpt(reply),
        retryable=is_retryable(reply.status),
        retry_after=retry_after_seconds(reply.headers),
    )


def _excerpt(reply: Reply) -> str:
    return reply.body[:500].decode("utf-8", "replace")
