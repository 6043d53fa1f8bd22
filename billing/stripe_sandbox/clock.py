"""The sandbox's own clock: wall time plus an offset, or frozen.

Identifiers, idempotency keys, the 35-day rule, summary lag and billing periods
all read this clock, so that a test moves days in an instant.
"""

from __future__ import annotations

import time
from typing import Any


class SandboxClock:
    """Seconds since 1970 as the sandbox sees them."""

    def __init__(self) -> None:
        self._offset = 0.0
        self._frozen_at: float | None = None

    def now(self) -> float:
        """Returns the sandbox's time in seconds since 1970."""
        return self._frozen_at if self._frozen_at is not None else time.time() + self._offset

    def seconds(self) -> int:
        """Returns `now()` cut to whole seconds, as Stripe's timestamps are."""
        return int(self.now())

    def set(self, moment: float) -> None:
        """Jumps to a moment, forwards or backwards; a frozen clock stays frozen."""
        if self._frozen_at is not None:
            self._frozen_at = moment
        else:
            self._offset = moment - time.time()

    def advance(self, seconds: float) -> None:
        """Moves by some seconds."""
        self.set(self.now() + seconds)

    def freeze(self, frozen: bool) -> None:
        """Stops the clock where it is, or lets it run on from there."""
        moment = self.now()
        self._frozen_at = moment if frozen else None
        if not frozen:
            self._offset = moment - time.time()

    def reset(self) -> None:
        """Back to wall time, running."""
        self._offset, self._frozen_at = 0.0, None

    def state(self) -> dict[str, Any]:
        """Returns what the control API shows and the store keeps."""
        return {
            "now": self.now(),
            "frozen": self._frozen_at is not None,
            "offset_seconds": self.now() - time.time(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up the clock of an earlier run from what `state()` gave."""
        self._frozen_at = float(state["now"]) if state["frozen"] else None
        self._offset = float(state["offset_seconds"])
