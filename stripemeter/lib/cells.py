"""Text that stays text when a spreadsheet opens it. Pure.

A cell that starts like a formula, also behind white space or in full-width letters, gets
a leading apostrophe (OWASP, CSV injection, with line feeds since 2025). Only plain
decimal numbers may start with a minus sign.
"""

import re
from datetime import date, datetime
from decimal import Decimal

from stripemeter.lib.decimals import plain
from stripemeter.lib.instants import rfc3339

_NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
#: What a spreadsheet may take for the start of a formula, and what it skips before it.
_STARTERS = frozenset("=+-@\t\r\n|%＝＋－＠﹢﹣﹦﹫−")
_SKIPPED = re.compile(r"[\s\u00a0\u1680\u2000-\u200f\u202f\u205f\u2060\u3000\ufeff\"']*")

Cell = str | int | Decimal | date | datetime | bool | None


def text_of(value: Cell) -> str:
    """``value`` as exports write it: plain decimals, RFC 3339 instants, empty for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, date):
        return value.isoformat()
    return str(value)


def inert(text: str) -> str:
    """``text`` with a leading apostrophe where a spreadsheet might compute it."""
    if _NUMBER.fullmatch(text):
        return text
    # Leading controls count as starters themselves, even where nothing follows them.
    if text[:1] in _STARTERS or _after_skipped(text)[:1] in _STARTERS:
        return "'" + text
    return text


def _after_skipped(text: str) -> str:
    match = _SKIPPED.match(text)
    return text[match.end() :] if match else text


def csv_line(cells: list[Cell]) -> str:
    """One CSV record (RFC 4180, CRLF): every cell quoted and inert."""
    quoted = ('"' + inert(text_of(cell)).replace('"', '""') + '"' for cell in cells)
    return ",".join(quoted) + "\r\n"
