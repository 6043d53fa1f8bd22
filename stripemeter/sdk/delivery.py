"""Delivery of events: split, send, read each event's fate, isolate what is refused.

What must stay true: an event leaves with a verdict of the server, or stays in `unsent` with its
key. A batch that is refused for some events is sent again without them, so one bad event never
holds back the others, and no event is sent again once it has a verdict.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from stripemeter.sdk.errors import (
    DeliveryFailed,
    EventConflict,
    EventRejected,
    StripeMeterError,
)
from stripemeter.sdk.events import Event
from stripemeter.sdk.results import EventResult, IngestResult, Status, status_of
from stripemeter.sdk.retry import RetryPolicy
from stripemeter.sdk.wire import Reply, Send, Steps, attempt, read_object

INGEST_PATH = "/v1/events/ingest"
REQUEST_EVENTS_MAX = 1_000
REQUEST_BYTES_MAX = 1_048_576
_ENVELOPE = (b'{"events":[', b"]}")

Placed = tuple[int, Event]


@dataclass(slots=True)
class Outcome:
    """Fates so far of the events of one call."""

    events: Sequence[Event]
    verdicts: list[EventResult | None] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    error: StripeMeterError | None = None

    def __post_init__(self) -> None:
        """Start with no verdict for any event."""
        self.verdicts = [None] * len(self.events)

    def settle(self, place: int, status: Status, error: str | None, code: str | None) -> None:
        """Write down the server's verdict on the event at `place`."""
        key = self.events[place].idempotency_key
        self.verdicts[place] = EventResult(place, key, status, error, code)

    @property
    def result(self) -> IngestResult:
        """The verdicts there are, in input order."""
        return IngestResult(
            tuple(verdict for verdict in self.verdicts if verdict is not None),
            tuple(self.request_ids),
        )

    @property
    def settled(self) -> list[Event]:
        """Events with a verdict."""
        pairs = zip(self.events, self.verdicts, strict=True)
        return [event for event, verdict in pairs if verdict is not None]

    @property
    def unsent(self) -> list[Event]:
        """Events without a verdict, in input order."""
        pairs = zip(self.events, self.verdicts, strict=True)
        return [event for event, verdict in pairs if verdict is None]

    @property
    def problems(self) -> list[tuple[StripeMeterError, Event]]:
        """One error for every event that was refused or is in conflict."""
        pairs = zip(self.events, self.verdicts, strict=True)
        return [
            (_problem(verdict, self.statuses.get(verdict.index)), event)
            for event, verdict in pairs
            if verdict is not None and verdict.status in ("error", "conflict")
        ]

    @property
    def failure(self) -> DeliveryFailed | None:
        """The error that ended the delivery early, holding what was not delivered."""
        if self.error is None:
            return None
        return DeliveryFailed(
            self.error.message,
            self.error.status_code,
            self.error.data,
            retryable=self.error.retryable,
            retry_after=self.error.retry_after,
            events=self.unsent,
            result=self.result,
        )


def deliver(outcome: Outcome, policy: RetryPolicy) -> Steps[None]:
    """Send the outcome's events and write their fates into it.

    Raises nothing: `outcome.error` says why it stopped early. The outcome belongs to the caller,
    so that what was settled is known even when the driver is interrupted half-way.
    """
    work = deque(split(list(enumerate(outcome.events))))
    while work:
        batch = work.popleft()
        try:
            yield from attempt(
                _request(batch), policy, partial(_read, batch=batch, outcome=outcome)
            )
        except StripeMeterError as error:
            again = _without_refused(batch, error, outcome)
            if again is None:
                outcome.error = error
                return
            work.extendleft(reversed(again))


def split(placed: Iterable[Placed]) -> list[list[Placed]]:
    """Cut a sequence of events into requests within the server's limits, keeping the order."""
    batches: list[list[Placed]] = []
    room = 0
    for place, event in placed:
        size = len(event.payload) + 1
        if not batches or len(batches[-1]) >= REQUEST_EVENTS_MAX or size > room:
            batches.append([])
            room = REQUEST_BYTES_MAX - sum(map(len, _ENVELOPE))
        batches[-1].append((place, event))
        room -= size
    return batches


def _request(batch: list[Placed]) -> Send:
    start, end = _ENVELOPE
    body = start + b",".join(event.payload for _, event in batch) + end
    return Send("POST", INGEST_PATH, content=body)


def _read(reply: Reply, batch: list[Placed], outcome: Outcome) -> None:
    """Take a 2xx answer; an answer that does not account for every event settles nothing."""
    data = read_object(reply)
    verdicts = _verdicts(data, batch)
    if verdicts is None:
        raise DeliveryFailed("the answer does not account for every event", reply.status, data)
    for (place, _), (status, error, code) in zip(batch, verdicts, strict=True):
        outcome.settle(place, status, error, code)
    if data.get("requestId"):
        outcome.request_ids.append(str(data["requestId"]))


Verdict = tuple[Status, str | None, str | None]


def _verdicts(data: dict[str, Any], batch: list[Placed]) -> list[Verdict] | None:
    rows = data.get("results")
    if rows is None:
        # An older server only counts: trust it when the counts say that nothing is missing.
        counted = data.get("accepted"), data.get("duplicates")
        if counted == (len(batch), 0):
            return [("accepted", None, None)] * len(batch)
        if counted == (0, len(batch)):
            return [("duplicate", None, None)] * len(batch)
        return None
    if not isinstance(rows, list) or len(rows) != len(batch):
        return None
    read = [_verdict(row) for row in rows]
    by_key = {key: verdict for key, verdict in read if key is not None and verdict is not None}
    ordered = [
        verdict if key in (None, event.idempotency_key) else by_key.get(event.idempotency_key)
        for (key, verdict), (_, event) in zip(read, batch, strict=True)
    ]
    known = [verdict for verdict in ordered if verdict is not None]
    return known if len(known) == len(batch) else None


def _verdict(row: Any) -> tuple[str | None, Verdict | None]:
    if not isinstance(row, dict):
        return None, None
    key, status = row.get("idempotencyKey"), status_of(row.get("status"))
    if status is None:
        return None, None
    verdict = (status, _text(row.get("error")), _text(row.get("code")))
    return (key if isinstance(key, str) else None), verdict


def _without_refused(
    batch: list[Placed], error: StripeMeterError, outcome: Outcome
) -> list[list[Placed]] | None:
    """Settle the events that made the server refuse the batch; return what to send again.

    Returns None when the refusal is not about single events (no access, wrong address, server
    down): then nothing is settled. Indexes in `errors[]` name the bad events; without them, and
    for a body that is too large, the batch is halved until the bad event stands alone.
    """
    if error.retryable or error.status_code not in (400, 413, 422):
        return None
    if error.status_code != 413 and not isinstance(error.data, dict):
        return None  # not an answer of StripeMeter
    bad = {} if error.status_code == 413 else _refused_places(error.data, len(batch))
    if not bad and len(batch) > 1:
        middle = len(batch) // 2
        return [batch[:middle], batch[middle:]]
    if not bad:
        bad = {0: (error.message, error.code)}
    for offset, (text, code) in bad.items():
        place = batch[offset][0]
        outcome.settle(place, "error", text, code)
        outcome.statuses[place] = error.status_code
    if error.request_id:
        outcome.request_ids.append(error.request_id)
    rest = [placed for offset, placed in enumerate(batch) if offset not in bad]
    return [rest] if rest else []


def _refused_places(data: Any, count: int) -> dict[int, tuple[str, str | None]]:
    rows = data.get("errors")
    bad: dict[int, tuple[str, str | None]] = {}
    for row in rows if isinstance(rows, list) else ():
        index = row.get("index") if isinstance(row, dict) else None
        if isinstance(index, int) and not isinstance(index, bool) and 0 <= index < count:
            text = row.get("detail") or row.get("error") or "refused"
            bad.setdefault(index, (str(text), _text(row.get("code"))))
    return bad


def _problem(verdict: EventResult, http_status: int | None) -> StripeMeterError:
    kind = EventConflict if verdict.status == "conflict" else EventRejected
    text = verdict.error or "the key is in the ledger with another payload"
    data = {"code": verdict.code, "idempotencyKey": verdict.idempotency_key}
    return kind(text, http_status, data)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
