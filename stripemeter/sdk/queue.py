"""The bounded buffer between the caller and the background flush.

Pure state without locks or clocks: its owner holds a lock (threads) or runs in one loop
(asyncio) and passes monotonic seconds. An event counts against the bound from `put` until its
verdict, also while it is on its way, so nothing can be dropped to make room.
"""

from collections import deque
from collections.abc import Sequence

from stripemeter.sdk.delivery import REQUEST_BYTES_MAX, REQUEST_EVENTS_MAX
from stripemeter.sdk.events import Event
from stripemeter.sdk.retry import RetryPolicy

HOLD_MAX_S = 30.0


class EventQueue:
    """Events in order of arrival, with the time the oldest of them came."""

    def __init__(self, batch_size: int, flush_interval: float, bound: int) -> None:
        self._batch_size = batch_size
        self._flush_interval = flush_interval
        self._bound = bound
        self._waiting: deque[tuple[float, Event]] = deque()
        self._on_the_way: dict[int, Event] = {}  # by identity: a caller may repeat a key
        self.reserved = 0
        self._hold_until = 0.0
        self._failures = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._on_the_way)

    @property
    def is_full(self) -> bool:
        """Say whether one more event would pass the bound."""
        return len(self) + self.reserved >= self._bound

    def reserve(self) -> None:
        """Keep a place for an event that is being written to the spool."""
        self.reserved += 1

    def release(self) -> None:
        """Give a reserved place back."""
        self.reserved -= 1

    def put(self, event: Event, now: float) -> None:
        """Append an event; the caller has looked at `is_full`."""
        self._waiting.append((now, event))

    def take(self) -> list[Event]:
        """Move the oldest events, as many as one request takes, on their way."""
        taken: list[Event] = []
        room = REQUEST_BYTES_MAX
        while self._waiting and len(taken) < REQUEST_EVENTS_MAX:
            size = len(self._waiting[0][1].payload) + 1
            if taken and size > room:
                break
            taken.append(self._waiting.popleft()[1])
            room -= size
        self._on_the_way.update((id(event), event) for event in taken)
        return taken

    def settle(self, events: Sequence[Event]) -> None:
        """Forget events on their way that have a verdict, and end any hold."""
        for event in events:
            self._on_the_way.pop(id(event), None)
        if events:
            self._failures = 0
            self._hold_until = 0.0

    def put_back(self, events: Sequence[Event], now: float) -> None:
        """Return events on their way to the front, in their order; they are due at once."""
        due = now - self._flush_interval
        for event in reversed(events):
            if self._on_the_way.pop(id(event), None) is not None:
                self._waiting.appendleft((due, event))

    def recall(self, now: float) -> None:
        """Put back everything on its way: whoever was sending it is gone."""
        self.put_back(list(self._on_the_way.values()), now)

    def everything(self) -> list[Event]:
        """Return all events without a verdict, oldest first."""
        return [*self._on_the_way.values(), *(event for _, event in self._waiting)]

    def hold(self, now: float, policy: RetryPolicy, retry_after: float | None) -> None:
        """Keep the background flush quiet after a failure: longer each time, with jitter."""
        ceiling = min(HOLD_MAX_S, policy.pause_base * 2 ** min(self._failures, 30))
        self._failures += 1
        jittered = policy.rng.uniform(ceiling / 2, ceiling)
        self._hold_until = now + (retry_after or 0.0) + jittered

    def wait_s(self, now: float) -> float | None:
        """Return seconds until the background flush has work: 0 = now, None = never yet.

        Time counts from the oldest event, so a steady trickle cannot put the flush off.
        """
        if not self._waiting:
            return None
        due = self._waiting[0][0] + self._flush_interval
        if len(self._waiting) >= self._batch_size:
            due = now
        return max(0.0, max(due, self._hold_until) - now)
