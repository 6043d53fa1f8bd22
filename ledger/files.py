"""Reads usage files into records: CSV, newline-delimited JSON, Apache and nginx access logs.

A record is a flat mapping of column name to value. A line that cannot be read is yielded as a
`BadLine`, never skipped in silence.
"""

import csv
import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any

from stripemeter.lib import strictjson
from stripemeter.lib.instants import rfc3339

LINE_CHARS_MAX = 65_536
FORMATS = ("csv", "ndjson", "access-log")

#: Common and combined log format of Apache httpd and nginx.
_ACCESS_LINE = re.compile(
    r'(?P<client>\S+) \S+ (?P<user>\S+) \[(?P<time>[^\]]+)\] "(?P<request>(?:[^"\\]|\\.)*)" '
    r"(?P<status>\d{3}) (?P<bytes>\d+|-)"
    # What follows is not usage: a log cut off within the user agent still counts.
    r'(?: "(?P<referer>(?:[^"\\]|\\.)*)")?(?: "(?P<agent>(?:[^"\\]|\\.)*)"?)?(?: .*)?'
)
_ACCESS_TIME = re.compile(
    r"(\d{2})/([A-Z][a-z]{2})/(\d{4}):(\d{2}):(\d{2}):(\d{2}) ([+-])(\d{2})(\d{2})", re.ASCII
)
_MONTHS = {
    name: number
    for number, name in enumerate(
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"], 1
    )
}


@dataclass(frozen=True, slots=True)
class Record:
    """One readable line, with its number in the file (from 1)."""

    line: int
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that could not be read, and why."""

    line: int
    reason: str


class UnreadableFile(ValueError):
    """The file as a whole makes no sense; the message says why."""


def guess_format(path: Path) -> str:
    """The format that the file's name suggests; access log if it suggests none."""
    name = path.name.removesuffix(".gz").lower()
    if name.endswith(".csv"):
        return "csv"
    if name.endswith((".ndjson", ".jsonl", ".json")):
        return "ndjson"
    return "access-log"


def open_raw(path: Path) -> IO[bytes]:
    """The file's bytes as stored (compressed or not): their position measures progress."""
    return path.open("rb")


def read(raw: IO[bytes], *, compressed: bool, kind: str) -> Iterator[Record | BadLine]:
    """Records of the open file. Raises `UnreadableFile` for a CSV without a usable header."""
    stream: Any = gzip.GzipFile(fileobj=raw) if compressed else raw
    text = TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="")
    try:
        if kind == "csv":
            yield from _read_csv(text)
        elif kind == "ndjson":
            yield from _read_lines(text, _ndjson_record)
        else:
            yield from _read_lines(text, _access_record)
    finally:
        # The caller opened the file and closes it; until then its position is progress.
        text.detach()


def _read_csv(text: TextIOWrapper) -> Iterator[Record | BadLine]:
    reader = csv.reader(text, strict=True)
    header = next(reader, None)
    if not header or any(not name.strip() for name in header):
        raise UnreadableFile("the first line must name every column")
    if len(set(header)) != len(header):
        raise UnreadableFile("two columns have the same name")
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield BadLine(reader.line_num, f"not CSV: {error}")
            continue
        if row is None:
            return
        if not row:
            continue
        if len(row) != len(header):
            yield BadLine(reader.line_num, f"has {len(row)} cells, the header has {len(header)}")
            continue
        values = {name: value for name, value in zip(header, row, strict=True) if value != ""}
        yield Record(reader.line_num, values)


def _read_lines(text: TextIOWrapper, parse: Any) -> Iterator[Record | BadLine]:
    for number, line in enumerate(text, 1):
        line = line.rstrip("\r\n")
        if not line.strip():
            continue
        if len(line) > LINE_CHARS_MAX:
            yield BadLine(number, f"is longer than {LINE_CHARS_MAX} characters")
            continue
        found = parse(line)
        yield Record(number, found) if isinstance(found, dict) else BadLine(number, found)


def _ndjson_record(line: str) -> dict[str, Any] | str:
    try:
        value = strictjson.loads(line)
    except strictjson.InvalidJSON as error:
        return str(error)
    return value if isinstance(value, dict) else "must be a JSON object"


def _access_record(line: str) -> dict[str, Any] | str:
    match = _ACCESS_LINE.fullmatch(line.rstrip())
    if match is None:
        return "is not a line of an access log"
    values: dict[str, Any] = {name: value for name, value in match.groupdict().items() if value}
    moment = _access_time(values["time"])
    if moment is None:
        return "has no readable time"
    method, _, rest = values.get("request", "").partition(" ")
    values.update(time=rfc3339(moment), method=method, path=rest.rpartition(" ")[0] or rest)
    # No bytes were sent: "-" is how the format writes zero.
    values["bytes"] = "0" if values["bytes"] == "-" else values["bytes"]
    if values.get("user") == "-":
        del values["user"]
    return values


def _access_time(written: str) -> datetime | None:
    match = _ACCESS_TIME.fullmatch(written)
    if match is None or match[2] not in _MONTHS:
        return None
    offset = timedelta(hours=int(match[8]), minutes=int(match[9]))
    zone = timezone(-offset if match[7] == "-" else offset)
    day, year, hour, minute, second = (int(match[part]) for part in (1, 3, 4, 5, 6))
    try:
        return datetime(year, _MONTHS[match[2]], day, hour, minute, second, tzinfo=zone)
    except ValueError:
        return None
