"""A keep-alive HTTP/1.1 connection with little overhead of its own, for load only."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit


class Connection:
    """One connection, one request at a time."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        lines = [f"Host: {self.host}:{self.port}", *(f"{k}: {v}" for k, v in headers.items())]
        self.head = "\r\n".join(lines)
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        self.reader, self.writer = await asyncio.open_connection(
            self.host, self.port, limit=1 << 24
        )

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        return await self._send("POST", path, body)

    async def get(self, path: str) -> tuple[int, bytes]:
        return await self._send("GET", path, b"")

    async def _send(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        assert self.reader is not None
        assert self.writer is not None
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{method} {path} HTTP/1.1\r\n{self.head}\r\n{length}\r\n"
        self.writer.write(head.encode() + body)
        raw = await self.reader.readuntil(b"\r\n\r\n")
        status = int(raw[9:12])
        lower = raw.lower()
        at = lower.find(b"\r\ncontent-length:")
        size = int(lower[at + 17 : lower.index(b"\r\n", at + 2)]) if at >= 0 else 0
        return status, await self.reader.readexactly(size)
