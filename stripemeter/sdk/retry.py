"""Which failures are tried again, and when: full jitter, `Retry-After` first."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

RETRYABLE_STATUSES = frozenset({408, 425, 429})


def is_retryable(status: int) -> bool:
    """Say whether an HTTP status is about the moment rather than about the request."""
    return status in RETRYABLE_STATUSES or status >= 500


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently. `attempts` counts the tries after the first one.

    The pause before try n is uniform in [0, min(`pause_max`, `pause_base` * 2**n)] seconds
    (full jitter), on top of what the server asked for. A server that asks for more than
    `retry_after_max` seconds ends the call at once; the error carries its wish.
    """

    attempts: int = 3
    pause_base: float = 0.25
    pause_max: float = 10.0
    retry_after_max: float = 60.0
    rng: random.Random = field(default_factory=random.SystemRandom)

    def pause(self, attempt: int, retry_after: float | None) -> float:
        """Return seconds to wait before the try after try number `attempt` (from 0)."""
        ceiling = min(self.pause_max, self.pause_base * 2 ** min(attempt, 30))
        return (retry_after or 0.0) + self.rng.uniform(0.0, ceiling)

    def gives_up(self, attempt: int, retry_after: float | None) -> bool:
        """Say whether try number `attempt` (from 0) was the last one."""
        return attempt >= self.attempts or (retry_after or 0.0) > self.retry_after_max


def retry_after_seconds(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Read `Retry-After` (seconds or an HTTP date) as seconds from now; None without one."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
