"""The one source of time.

Edges (api, view, task, command) call `now` once and pass it on as ``now=``; services
never call it. Tests and fault runs move time through an offset file that every process
reads, so that processes agree or disagree on purpose.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

_offset_cache: tuple[int, timedelta] = (-1, timedelta(0))


def now() -> datetime:
    """The current instant, aware, in UTC, moved by ``CLOCK_OFFSET_FILE`` if that is set.

    The file holds whole seconds as text, for example ``-3600``.
    """
    instant = datetime.now(UTC)
    path = os.environ.get("CLOCK_OFFSET_FILE")
    return instant + _offset(path) if path else instant


def _offset(path: str) -> timedelta:
    global _offset_cache  # noqa: PLW0603  a one-entry cache of a tiny file
    try:
        stamp = os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return timedelta(0)
    if stamp != _offset_cache[0]:
        text = Path(path).read_text(encoding="ascii").strip()
        _offset_cache = (stamp, timedelta(seconds=int(text or "0")))
    return _offset_cache[1]
