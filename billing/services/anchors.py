"""High-water marks of pushing, kept outside the database: a restored backup cannot know them.

Each account's `epoch` grows in the transaction that claims pushes; once that is committed
and before the first call the mark is raised to it. So a mark is never above the epoch of
a database that went on, and always above that of one that was set back. Redis holds the
marks; with ``PUSH_ANCHOR_DIR`` a folder holds them, too, and survives a flush of Redis.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import redis
from django.conf import settings

from stripemeter.lib import redisclient
from stripemeter.lib.logs import get_logger

log = get_logger(__name__)

_RAISE = """
local known = tonumber(redis.call('GET', KEYS[1]) or '0')
if tonumber(ARGV[1]) > known then redis.call('SET', KEYS[1], ARGV[1]) end
"""


def raise_to(anchor: UUID, epoch: int) -> None:
    """Raise the mark of ``anchor`` to ``epoch``, wherever it can be kept; never lowers it."""
    try:
        redisclient.client().eval(_RAISE, 1, _key(anchor), str(epoch))
    except redis.RedisError as error:
        log.warning("anchor.redis_away", error=type(error).__name__)
    if settings.PUSH_ANCHOR_DIR:
        try:
            _raise_file(anchor, epoch)
        except OSError as error:
            log.warning("anchor.folder_away", error=str(error))


def highest(anchor: UUID) -> int | None:
    """The highest mark that is known for ``anchor``; None if no place knows any."""
    marks: list[int] = []
    try:
        found = redisclient.client().get(_key(anchor))
        if found is not None:
            marks.append(int(found))
    except (redis.RedisError, ValueError):
        log.warning("anchor.redis_away")
    if settings.PUSH_ANCHOR_DIR:
        with suppress(OSError, ValueError):
            marks.append(int(_path(anchor).read_text(encoding="ascii")))
    return max(marks, default=None)


def _key(anchor: UUID) -> str:
    return f"push-epoch:{anchor.hex}"


def _path(anchor: UUID) -> Path:
    return Path(settings.PUSH_ANCHOR_DIR) / f"{anchor.hex}.epoch"


def _raise_file(anchor: UUID, epoch: int) -> None:
    path = _path(anchor)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        known = file.read().strip()
        if known.isdigit() and int(known) >= epoch:
            return
        file.seek(0)
        file.truncate()
        file.write(str(epoch))
        file.flush()
        os.fsync(file.fileno())
