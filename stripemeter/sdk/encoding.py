"""Exact numbers and JSON: a Decimal reaches the wire digit for digit, never through a float."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from stripemeter.sdk.errors import InvalidEvent

QUANTITY_DIGITS_MAX = 38
QUANTITY_DECIMALS_MAX = 12
JSON_DEPTH_MAX = 32

Quantity = Decimal | int | str | float


def quantity_text(value: Quantity) -> str:
    """Return a quantity as a plain JSON number.

    A float goes through its shortest repr, so 0.1 is sent as 0.1. Raises `InvalidEvent` for
    NaN, infinities, negatives and more digits than the ledger keeps (38, of which 12 decimals).
    """
    if isinstance(value, bool) or not isinstance(value, Decimal | int | str | float):
        raise InvalidEvent(f"quantity must be a number, not {type(value).__name__}")
    try:
        number = Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation as error:
        raise InvalidEvent(f"quantity is not a number: {value!r}") from error
    if not number.is_finite():
        raise InvalidEvent("quantity must be finite")
    if number < 0:
        raise InvalidEvent("quantity must not be negative; corrections are adjustments")
    if not number:
        return "0"
    if abs(number.adjusted()) > 2 * QUANTITY_DIGITS_MAX:
        raise InvalidEvent("quantity has more digits than the ledger keeps")
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    whole, _, fraction = text.partition(".")
    digits = len(whole.lstrip("0")) + len(fraction)
    if len(fraction) > QUANTITY_DECIMALS_MAX or digits > QUANTITY_DIGITS_MAX:
        raise InvalidEvent("quantity has more than 38 digits or more than 12 decimals")
    return text


def timestamp_text(value: datetime | str | None, *, now: datetime) -> str:
    """Return an event time as RFC 3339 UTC text with microseconds.

    `None` means `now`. Raises `InvalidEvent` for a time without offset (it would be a guess)
    and for more than six fraction digits (they would be lost).
    """
    if value is None:
        moment = now
    elif isinstance(value, datetime):
        moment = value
    else:
        moment = _parse_timestamp(value)
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise InvalidEvent("ts must carry a time zone or an offset")
    utc = moment.astimezone(UTC)
    return utc.strftime("%Y-%m-%dT%H:%M:%S.") + f"{utc.microsecond:06d}Z"


def _parse_timestamp(text: str) -> datetime:
    fraction = text.partition(".")[2]
    digits = len(fraction) - len(fraction.lstrip("0123456789"))
    if digits > 6:
        raise InvalidEvent("ts has more than six fraction digits")
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidEvent(f"ts is not an RFC 3339 time: {text!r}") from error


def json_text(value: Any, depth: int = 0) -> str:
    """Return compact JSON of plain data; Decimals are written exactly, NaN is refused."""
    if depth > JSON_DEPTH_MAX:
        raise InvalidEvent(f"meta is nested deeper than {JSON_DEPTH_MAX}")
    if value is None or isinstance(value, bool | str | int):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Decimal | float):
        number = Decimal(repr(value)) if isinstance(value, float) else value
        if not number.is_finite():
            raise InvalidEvent("meta holds a number that is not finite")
        return str(number)
    if isinstance(value, Mapping):
        return "{" + ",".join(_member(k, v, depth) for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(json_text(item, depth + 1) for item in value) + "]"
    raise InvalidEvent(f"meta holds a {type(value).__name__}, which is not JSON")


def _member(key: Any, value: Any, depth: int) -> str:
    if not isinstance(key, str):
        raise InvalidEvent("meta keys must be strings")
    return f"{json.dumps(key, ensure_ascii=False)}:{json_text(value, depth + 1)}"


def parse_json(body: bytes) -> Any:
    """Decode an answer with fractions as Decimal; None when it is not JSON."""
    try:
        return json.loads(body, parse_float=Decimal)
    except (ValueError, RecursionError):
        return None
