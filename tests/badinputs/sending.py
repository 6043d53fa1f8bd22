"""Sends a case over a socket, byte for byte, and reads what comes back."""

import http.client
import json
import socket
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.badinputs.catalogue import Case
from tests.badinputs.filling import Filler

TIMEOUT_SECONDS = 45.0


@dataclass(slots=True)
class Answer:
    """What came back for one send; status 0 means closed without an answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    seconds: float
    sent: bytes = b""
    raw: bytes = b""
    problems: list[str] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """The first header called ``name``."""
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)

    def json(self) -> Any:
        """The body as JSON, or None."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


def send(base: str, case: Case, filler: Filler) -> Answer:
    """One send of ``case``."""
    filler.sends += 1
    if case.transport == "raw-socket":
        return _send_raw(base, case, filler)
    body = filler.generated(case.generate) if case.generate else b""
    if not case.generate:
        body = _encoded(filler.fill(case.body), case.body_encoding)
    pairs = _headers(case, filler, body)
    return _exchange(base, case.method, filler.fill(case.path), pairs, body)


def _encoded(text: str, encoding: str) -> bytes:
    return text.encode(encoding)


def _headers(case: Case, filler: Filler, body: bytes) -> list[tuple[str, bytes]]:
    pairs: list[tuple[str, bytes]] = []
    for name, value in case.headers.items():
        for one in value if isinstance(value, list) else [value]:
            text = filler.sign(filler.fill(one), body)
            pairs.append((name, text.encode("utf-8")))
    if case.generate and case.generate["op"] == "headers":
        pairs += [(f"X-H-{n}", b"a") for n in range(1, case.generate["count"] + 1)]
    return pairs


def _exchange(
    base: str, method: str, path: str, headers: list[tuple[str, bytes]], body: bytes
) -> Answer:
    host = urlsplit(base)
    connection = http.client.HTTPConnection(host.hostname, host.port, timeout=TIMEOUT_SECONDS)
    started = time.perf_counter()
    try:
        connection.connect()
        # http.client refuses odd paths and headers; these are exactly what is to be sent.
        lines = [f"{method} {_quoted(path)} HTTP/1.1".encode("latin-1"), b"Host: " + _host(base)]
        lines += [name.encode() + b": " + value for name, value in headers]
        if body or method in {"POST", "PUT", "PATCH"}:
            lines.append(f"Content-Length: {len(body)}".encode())
        lines += [b"Connection: close", b"", b""]
        data = b"\r\n".join(lines) + body
        raw = _talk(connection.sock, data)
    except OSError as error:
        return Answer(0, [], b"", time.perf_counter() - started, body, repr(error).encode())
    finally:
        connection.close()
    return _parsed(raw, time.perf_counter() - started, body)


def _quoted(path: str) -> str:
    return path.replace(" ", "%20")


def _host(base: str) -> bytes:
    return base.removeprefix("http://").encode()


def _talk(sock: socket.socket, data: bytes, *, half_close: bool = False) -> bytes:
    try:
        sock.sendall(data)
        if half_close:
            sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # refused while it was still being sent; the answer may be there all the same
    received = b""
    while True:
        try:
            piece = sock.recv(65536)
        except OSError:
            break
        if not piece:
            break
        received += piece
    return received


def _parsed(raw: bytes, seconds: float, sent: bytes) -> Answer:
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    if not lines[0].startswith("HTTP/"):
        return Answer(0, [], b"", seconds, sent, raw)
    pairs = [tuple(line.split(": ", 1)) for line in lines[1:] if ": " in line]
    headers = [(name, value.strip()) for name, value in pairs]
    if any(n.lower() == "transfer-encoding" and v.lower() == "chunked" for n, v in headers):
        body = _unchunked(body)
    return Answer(int(lines[0].split()[1]), headers, body, seconds, sent, raw)


def _unchunked(body: bytes) -> bytes:
    found = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size.split(b";")[0] or b"0", 16)
        if length == 0:
            break
        found, body = found + rest[:length], rest[length + 2 :]
    return found


def _send_raw(base: str, case: Case, filler: Filler) -> Answer:
    host = urlsplit(base)
    data = filler.fill(case.body).encode("latin-1")
    started = time.perf_counter()
    with socket.create_connection((host.hostname, host.port), timeout=TIMEOUT_SECONDS) as sock:
        if case.pace_ms:
            raw = _drip(sock, data, case.pace_ms / 1000)
        else:
            raw = _talk(sock, data, half_close=True)
    return _parsed(raw, time.perf_counter() - started, data)


def _drip(sock: socket.socket, data: bytes, pace: float) -> bytes:
    """Send a byte at a time until the server has had enough (a minute at most)."""
    end = time.monotonic() + 60
    sock.settimeout(pace)
    for byte in data:
        try:
            sock.send(bytes([byte]))
            return sock.recv(65536)
        except TimeoutError:
            if time.monotonic() > end:
                break
        except OSError:
            return b""
    return b"STILL OPEN"
