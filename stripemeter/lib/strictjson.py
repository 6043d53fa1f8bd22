"""The one JSON reader and writer.

Reading refuses what parsers disagree on: duplicate names, NaN and Infinity, lone
surrogates, NUL, other encodings than UTF-8 (RFC 7493, I-JSON). Numbers with a fraction or
exponent become Decimal, whole numbers int: no float is made. Writing keeps Decimals as
JSON numbers with every digit.
"""

import json
from decimal import Decimal
from typing import Any

import msgspec

from stripemeter.lib.decimals import plain

DEPTH_MAX = 32
_NUMBER_CHARS_MAX = 400
#: Decimal("1E+999999999") is small; printing it is not. jsonb stops at 131,072 digits.
_EXPONENT_MAX = 400


class InvalidJSON(ValueError):
    """The text is not strict JSON; the message says why."""


def _refuse_constant(name: str) -> Any:
    raise InvalidJSON(f"{name} is not JSON")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise InvalidJSON(f"duplicate name {name!r}")
            seen.add(name)
    return found


def _whole(text: str) -> int | Decimal:
    if len(text) > _NUMBER_CHARS_MAX:
        raise InvalidJSON("number has too many digits")
    # int("-0") would lose the sign, and a negative quantity is refused, also that of nothing.
    return Decimal(text) if text == "-0" else int(text)


def _fraction(text: str) -> Decimal:
    if len(text) > _NUMBER_CHARS_MAX:
        raise InvalidJSON("number has too many digits")
    number = Decimal(text)
    if abs(number.adjusted()) > _EXPONENT_MAX:
        raise InvalidJSON("number is out of range")
    return number


def _check_text(value: str) -> None:
    if "\x00" in value:
        raise InvalidJSON("NUL is not allowed in text")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidJSON("lone surrogate in text") from error


def _check(value: Any, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise InvalidJSON("nested too deeply")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, dict):
        for name, member in value.items():
            _check_text(name)
            _check(member, depth + 1)
    elif isinstance(value, list):
        for member in value:
            _check(member, depth + 1)


def loads(data: bytes | str) -> Any:
    """Parse strict JSON from UTF-8 bytes (or text).

    Raises `InvalidJSON`. Fractions and exponents become Decimal, whole numbers int.
    """
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        value = json.loads(
            text,
            parse_float=_fraction,
            parse_int=_whole,
            parse_constant=_refuse_constant,
            object_pairs_hook=_pairs,
        )
        _check(value, 0)
    except InvalidJSON:
        raise
    except UnicodeDecodeError as error:
        raise InvalidJSON("not valid UTF-8") from error
    except RecursionError as error:
        raise InvalidJSON("nested too deeply") from error
    except (ValueError, ArithmeticError) as error:
        raise InvalidJSON(f"not valid JSON: {error}") from error
    return value


_msgspec_encoder = msgspec.json.Encoder(decimal_format="number")


def _plain_decimals(value: Any, *, as_text: bool) -> Any:
    if isinstance(value, Decimal):
        text = plain(value)
        return text if as_text else msgspec.Raw(text.encode("ascii"))
    if isinstance(value, dict):
        return {name: _plain_decimals(member, as_text=as_text) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_decimals(member, as_text=as_text) for member in value]
    return value


def dumps(value: Any, *, decimals_as_text: bool = False) -> bytes:
    """UTF-8 JSON of ``value``; Decimals as plain JSON numbers, or as strings on request.

    Datetimes become RFC 3339 with ``Z``; dataclasses and structs become objects.
    """
    builtins = msgspec.to_builtins(value, builtin_types=(Decimal,), str_keys=True, enc_hook=str)
    return _msgspec_encoder.encode(_plain_decimals(builtins, as_text=decimals_as_text))


def canonical(value: Any) -> bytes:
    """The one spelling of ``value`` that hashes are made of: sorted names, no white space."""
    return json.dumps(
        _plain_decimals(value, as_text=True),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=True,
        allow_nan=False,
    ).encode("ascii")


_sorted_encoder = msgspec.json.Encoder(order="sorted", decimal_format="number")


def dumps_sorted(value: Any) -> bytes:
    """UTF-8 JSON with sorted names and plain numbers: equal documents give equal bytes."""
    return _sorted_encoder.encode(_normal_numbers(value))


def _normal_numbers(value: Any) -> Any:
    if isinstance(value, Decimal):
        return Decimal(plain(value))
    if isinstance(value, dict):
        return {name: _normal_numbers(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_normal_numbers(member) for member in value]
    return value
