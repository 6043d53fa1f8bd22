"""The sandbox's own clock: wall time plus an offset, or frozen.

Identifiers, idempotency keys, the 35-day rule, summary lag and billing periods
all read this clock, so that a test moves days in an instant.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any


class SandboxClock:
    """Seconds since 1970 as the sandbox sees them."""

    def __init__(self, offset_file: Path | None = None) -> None:
        self._offset = 0.0
        self._frozen_at: float | None = None
        self._offset_file = offset_file
        self._offset_of_file: tuple[int, float] = (-1, 0.0)

    def _wall(self) -> float:
        """Returns the machine's time, moved by the seconds in the offset file if there is one.

        Processes under test may share such a file to move together.
        """
        if self._offset_file is None:
            return time.time()
        try:
            stamp = self._offset_file.stat().st_mtime_ns
        except FileNotFoundError:
            return time.time()
        if stamp != self._offset_of_file[0]:
            text = self._offset_file.read_text(encoding="ascii").strip()
            self._offset_of_file = (stamp, float(text or 0))
        return time.time() + self._offset_of_file[1]

    def now(self) -> float:
        """Returns the sandbox's time in seconds since 1970."""
        return self._frozen_at if self._frozen_at is not None else self._wall() + self._offset

    def seconds(self) -> int:
        """Returns `now()` cut to whole seconds, as Stripe's timestamps are."""
        return int(self.now())

    def set(self, moment: float) -> None:
        """Jumps to a moment, forwards or backwards; a frozen clock stays frozen."""
        if self._frozen_at is not None:
            self._frozen_at = moment
        else:
            self._offset = moment - self._wall()

    def advance(self, seconds: float) -> None:
        """Moves by some seconds."""
        self.set(self.now() + seconds)

    def freeze(self, frozen: bool) -> None:
        """Stops the clock where it is, or lets it run on from there."""
        moment = self.now()
        self._frozen_at = moment if frozen else None
        if not frozen:
            self._offset = moment - self._wall()

    def reset(self) -> None:
        """Back to wall time, running."""
        self._offset, self._frozen_at = 0.0, None

    def state(self) -> dict[str, Any]:
        """Returns what the control API shows and the store keeps."""
        return {
            "now": self.now(),
            "frozen": self._frozen_at is not None,
            "offset_seconds": self.now() - self._wall(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up the clock of an earlier run from what `state()` gave."""
        self._frozen_at = float(state["now"]) if state["frozen"] else None
        self._offset = float(state["offset_seconds"])
