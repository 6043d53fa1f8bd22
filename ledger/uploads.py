"""Reads uploads as text: bounded before and after unpacking, in one pass."""

import gzip
import io
from typing import IO, Any

from django.conf import settings

from stripemeter.lib.errors import PayloadTooLarge


class _Limited(io.RawIOBase):
    """Reads at most ``limit`` bytes from a stream; more is `PayloadTooLarge`."""

    def __init__(self, stream: Any, limit: int) -> None:
        self._stream, self._left = stream, limit

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into ``buffer``; the number of bytes."""
        data: bytes = self._stream.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise PayloadTooLarge("The upload is too large.")
        buffer[: len(data)] = data
        return len(data)


def text_of(stream: Any, *, compressed: bool) -> io.TextIOWrapper:
    """The upload as UTF-8 text; more than the limit raises `PayloadTooLarge` while reading."""
    limit = settings.BACKFILL_UPLOAD_LIMIT_BYTES
    raw: IO[bytes] = io.BufferedReader(_Limited(stream, limit), 65_536)
    if compressed:
        # Bounded after unpacking too: a small file can unpack to anything.
        unpacked = gzip.GzipFile(fileobj=raw)
        raw = io.BufferedReader(_Limited(unpacked, limit), 65_536)
    return io.TextIOWrapper(raw, encoding="utf-8", errors="surrogateescape", newline="")
