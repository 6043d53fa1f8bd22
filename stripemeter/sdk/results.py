"""What the server said about each event, in the order the events were given."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from stripemeter.sdk.errors import EventRejected

Status = Literal["accepted", "duplicate", "conflict", "error"]
STATUSES: tuple[Status, ...] = ("accepted", "duplicate", "conflict", "error")


@dataclass(frozen=True, slots=True)
class EventResult:
    """The fate of one event. `index` is its place in the call that sent it.

    `accepted`: newly in the ledger. `duplicate`: was there already, with the same payload.
    `conflict`: the key is there with another payload. `error`: refused, see `error`.
    """

    index: int
    idempotency_key: str
    status: Status
    error: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class IngestResult:
    """Answers for all events of one call, also when it took several requests."""

    results: tuple[EventResult, ...] = ()
    request_ids: tuple[str, ...] = ()

    @property
    def accepted(self) -> int:
        """Events newly in the ledger."""
        return self._count("accepted")

    @property
    def duplicates(self) -> int:
        """Events that were in the ledger already, payload and all."""
        return self._count("duplicate")

    @property
    def conflicts(self) -> int:
        """Events whose key is in the ledger with another payload; not counted."""
        return self._count("conflict")

    @property
    def errors(self) -> tuple[EventResult, ...]:
        """Events the server refused; they are in no total."""
        return tuple(result for result in self.results if result.status == "error")

    @property
    def request_id(self) -> str | None:
        """The server's id of the last request of this call."""
        return self.request_ids[-1] if self.request_ids else None

    @property
    def ok(self) -> bool:
        """True when every event is in the ledger as it was given."""
        return all(result.status in ("accepted", "duplicate") for result in self.results)

    def raise_for_errors(self) -> None:
        """Raise `EventRejected` for the first event that is not in the ledger as given."""
        for result in self.results:
            if result.status in ("conflict", "error"):
                raise EventRejected(
                    f"event {result.index} ({result.idempotency_key}): "
                    f"{result.error or result.status}",
                    data={"code": result.code, "results": self.results},
                )

    def _count(self, status: Status) -> int:
        return sum(result.status == status for result in self.results)


def merge(results: Iterable[IngestResult]) -> IngestResult:
    """Put the results of consecutive calls together and number the events afresh."""
    events: list[EventResult] = []
    request_ids: list[str] = []
    for part in results:
        base = len(events)
        events.extend(
            EventResult(base + place, r.idempotency_key, r.status, r.error, r.code)
            for place, r in enumerate(part.results)
        )
        request_ids.extend(part.request_ids)
    return IngestResult(tuple(events), tuple(request_ids))


def status_of(value: Any) -> Status | None:
    """Return the value as a status, or None when the server said something else."""
    for status in STATUSES:
        if value == status:
            return status
    return None
