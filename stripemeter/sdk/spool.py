"""The optional disk spool: buffered events survive a crash of the caller.

A spool directory holds one folder per running client, locked while its owner lives. Events are
appended to numbered segments and fsynced before `buffer` returns; verdicts are appended after
delivery. At its start a client takes over the folders of dead owners: events without a verdict
are sent again with the keys they had, so the server counts each one once.

    E <crc32> <event JSON>      an event that was buffered
    D <crc32> ["key", ...]      keys that have a verdict

A line that was torn by a crash fails its checksum and is skipped: its `buffer` call never
returned. Refused events are kept in `rejected.ndjson` beside the folders.
"""

import contextlib
import json
import os
import shutil
import sys
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from stripemeter.sdk.errors import StripeMeterError
from stripemeter.sdk.events import Event
from stripemeter.sdk.ids import new_key

SEGMENT_BYTES_MAX = 8 * 1024 * 1024
REJECTED_NAME = "rejected.ndjson"
LOCK_NAME = "lock"
FOLDER_PREFIX = "py-"  # the Node client has folders of its own, with another way of locking


class Spool:
    """One client's folder of the spool directory. Methods may be called from any thread."""

    def __init__(self, directory: str | os.PathLike[str], *, fsync: bool = True) -> None:
        self._root = Path(directory)
        self._root.mkdir(parents=True, exist_ok=True)
        self._fsync = fsync
        self._lock = threading.Lock()
        self._open_folder()

    def _open_folder(self) -> None:
        # Hidden until it is locked, so that another start cannot take it for a dead owner's.
        name = FOLDER_PREFIX + new_key()
        hidden = self._root / f".{name}"
        hidden.mkdir()
        self._owner = _lock_file(hidden / LOCK_NAME)
        self._folder = hidden.rename(self._root / name)
        self._outstanding: dict[str, int] = {}
        self._live: dict[int, int] = {}
        self._number = 0
        self._file = self._open_segment()
        _sync_folder(self._root, self._fsync)

    def append(self, events: Sequence[Event]) -> None:
        """Write events down; when this returns, they survive a crash."""
        text = b"".join(_line(b"E", event.payload) for event in events)
        with self._lock:
            self._write(text, durable=True)
            for event in events:
                if event.idempotency_key not in self._outstanding:
                    self._outstanding[event.idempotency_key] = self._number
                    self._live[self._number] = self._live.get(self._number, 0) + 1
            if self._file.tell() > SEGMENT_BYTES_MAX:
                self._next_segment()

    def settle(self, events: Sequence[Event]) -> None:
        """Note that events have a verdict; a segment without open events is deleted."""
        keys = [event.idempotency_key for event in events]
        with self._lock:
            # No fsync: a lost note only means that a duplicate is sent after a crash.
            try:
                self._write(_line(b"D", json.dumps(keys).encode()), durable=False)
            finally:
                for key in keys:
                    self._forget(key)
                if not self._outstanding:
                    self._file.truncate(0)

    def reject(self, event: Event, reason: str) -> None:
        """Keep a refused event for a person to look at."""
        row = f'{{"error":{json.dumps(reason)},"event":'.encode() + event.payload + b"}\n"
        with self._lock, (self._root / REJECTED_NAME).open("ab") as rejected:
            rejected.write(row)

    def adopt(self) -> list[Event]:
        """Take over what dead owners left: rewrite it here, then delete their folders."""
        adopted: list[Event] = []
        for folder in sorted(self._root.glob(f"{FOLDER_PREFIX}*")):
            if folder == self._folder:
                continue
            owner = _try_lock(folder / LOCK_NAME)
            if owner is None:
                continue
            events = list(_undelivered(folder))
            if events:
                self.append(events)
            adopted.extend(events)
            for path in folder.glob("*.log"):
                path.unlink(missing_ok=True)  # while locked, so that nobody reads them again
            owner.close()
            shutil.rmtree(folder, ignore_errors=True)
        return adopted

    def close(self) -> None:
        """Let go of the folder; with nothing open in it, it disappears."""
        with self._lock:
            if self._file.closed:
                return
            self._file.close()
            self._owner.close()
            if not self._outstanding:
                shutil.rmtree(self._folder, ignore_errors=True)

    def after_fork(self) -> None:
        """In a forked child: leave the parent's folder alone and open an own one."""
        self._lock = threading.Lock()
        self._file.close()
        self._owner.close()  # the parent's descriptor keeps the lock
        self._open_folder()

    def _forget(self, key: str) -> None:
        number = self._outstanding.pop(key, None)
        if number is None:
            return
        self._live[number] -= 1
        if not self._live[number]:
            del self._live[number]
            if number != self._number:
                (self._folder / _segment_name(number)).unlink(missing_ok=True)

    def _next_segment(self) -> None:
        finished = self._number
        self._file.close()
        self._number += 1
        self._file = self._open_segment()
        if finished not in self._live:
            (self._folder / _segment_name(finished)).unlink(missing_ok=True)

    def _open_segment(self) -> IO[bytes]:
        path = self._folder / _segment_name(self._number)
        file = path.open("ab", buffering=0)
        _sync_folder(self._folder, self._fsync)
        return file

    def _write(self, text: bytes, *, durable: bool) -> None:
        start = self._file.tell()
        try:
            written = self._file.write(text)
            if written != len(text):
                raise OSError(f"wrote {written} of {len(text)} bytes")
            if durable and self._fsync:
                os.fsync(self._file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(start)
            raise StripeMeterError(f"the spool cannot be written: {error}") from error


def _segment_name(number: int) -> str:
    return f"{number:08d}.log"


def _line(kind: bytes, body: bytes) -> bytes:
    return b"%s %08x %s\n" % (kind, zlib.crc32(body), body)


def _undelivered(folder: Path) -> Iterator[Event]:
    """Yield the events of a dead owner's folder that have no verdict, in order."""
    events: dict[str, Event] = {}
    for path in sorted(folder.glob("*.log")):
        with path.open("rb") as lines:
            for line in lines:
                kind, body = _checked(line)
                if kind == b"E":
                    event = Event.from_payload(body)
                    if event is not None:
                        events[event.idempotency_key] = event
                elif kind == b"D":
                    for key in json.loads(body):
                        events.pop(key, None)
    yield from events.values()


def _checked(line: bytes) -> tuple[bytes, bytes]:
    parts = line.removesuffix(b"\n").split(b" ", 2)
    if len(parts) != 3 or not line.endswith(b"\n"):
        return b"", b""
    kind, checksum, body = parts
    return (kind, body) if checksum == b"%08x" % zlib.crc32(body) else (b"", b"")


def _sync_folder(folder: Path, wanted: bool) -> None:
    """Make new names in a folder durable (a no-op where folders cannot be opened)."""
    if not wanted or sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock_file(path: Path) -> IO[bytes]:
    owner = _try_lock(path)
    if owner is None:
        raise StripeMeterError(f"the spool folder {path.parent} is in use")
    return owner


def _try_lock(path: Path) -> IO[bytes] | None:
    """Lock a file for the life of this process; None when a living process holds it."""
    try:
        file = path.open("ab")
    except OSError:
        return None
    try:
        if sys.platform == "win32":
            import msvcrt  # exists on Windows only

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # does not exist on Windows

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
