"""PostgreSQL's binary array format, written column by column.

psycopg's own list dumpers cost 6 microseconds an event in binary and 68 in text; these
cost 3 (docs/performance.md). Format: src/backend/utils/adt/arrayfuncs.c, array_recv; numeric:
src/backend/utils/adt/numeric.c, numeric_recv.
"""

import struct
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, ClassVar, cast

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

_NULL = b"\xff\xff\xff\xff"
_LENGTHS = [struct.pack(">i", length) for length in range(4_200)]
_LENGTH_16 = _LENGTHS[16]
_WIDE = struct.Struct(">iq")
_NUMERIC_CACHE_MAX = 50_000
_POSITIVE, _NEGATIVE = 0x0000, 0x4000

_numerics: dict[str, bytes] = {}


class PackedArray:
    """A one-dimensional array already in binary form; subclasses name the element type."""

    element_oid: ClassVar[int]
    array_oid: ClassVar[int]
    __slots__ = ("data",)

    def __init__(self, count: int, body: bytes, *, has_null: bool = False) -> None:
        header = struct.pack(">iiIii", 1, has_null, self.element_oid, count, 1)
        self.data = header + body


class Int4Array(PackedArray):
    """``int4[]``."""

    element_oid, array_oid = 23, 1007


class Int8Array(PackedArray):
    """``int8[]``."""

    element_oid, array_oid = 20, 1016


class TimestamptzArray(PackedArray):
    """``timestamptz[]`` of microseconds since 2000-01-01 UTC."""

    element_oid, array_oid = 1184, 1185


class UuidArray(PackedArray):
    """``uuid[]``."""

    element_oid, array_oid = 2950, 2951


class TextArray(PackedArray):
    """``text[]``."""

    element_oid, array_oid = 25, 1009


class NumericArray(PackedArray):
    """``numeric[]``."""

    element_oid, array_oid = 1700, 1231


class JsonbArray(PackedArray):
    """``jsonb[]``."""

    element_oid, array_oid = 3802, 3807


class _PackedDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Any) -> bytes:
        data: bytes = obj.data
        return data


def _dumper(kind: type[PackedArray]) -> type[_PackedDumper]:
    return type(f"{kind.__name__}Dumper", (_PackedDumper,), {"oid": kind.array_oid})


for _kind in (
    Int4Array,
    Int8Array,
    TimestamptzArray,
    UuidArray,
    TextArray,
    NumericArray,
    JsonbArray,
):
    psycopg.adapters.register_dumper(_kind, _dumper(_kind))


def _length(size: int) -> bytes:
    return _LENGTHS[size] if size < len(_LENGTHS) else struct.pack(">i", size)


def int4s(values: Sequence[int]) -> Int4Array:
    """``values`` as ``int4[]``."""
    packed = {value: struct.pack(">ii", 4, value) for value in set(values)}
    return Int4Array(len(values), b"".join([packed[value] for value in values]))


def int8s(values: Sequence[int]) -> Int8Array:
    """``values`` as ``int8[]``."""
    return Int8Array(len(values), _wide(values))


def timestamps(values: Sequence[int]) -> TimestamptzArray:
    """Microseconds since 2000-01-01 UTC as ``timestamptz[]``."""
    return TimestamptzArray(len(values), _wide(values))


def _wide(values: Sequence[int]) -> bytes:
    pack = _WIDE.pack
    return b"".join([pack(8, value) for value in values])


def uuids(values: Sequence[bytes]) -> UuidArray:
    """16-byte values as ``uuid[]``."""
    return UuidArray(len(values), _LENGTH_16 + _LENGTH_16.join(values) if values else b"")


def texts(values: Sequence[str | None]) -> TextArray:
    """Text or null as ``text[]``."""
    if len(values) > 1 and values.count(values[0]) == len(values):
        # A column that says one thing, as source and resource mostly do.
        return TextArray(len(values), _text(values[0]) * len(values), has_null=values[0] is None)
    has_null = None in values
    if has_null:
        parts = [_text(value) for value in values]
    else:
        encoded = [value.encode() for value in cast(Sequence[str], values)]
        if len(max(encoded, key=len, default=b"")) < len(_LENGTHS):
            parts = [_LENGTHS[len(data)] + data for data in encoded]
        else:
            parts = [_length(len(data)) + data for data in encoded]
    return TextArray(len(values), b"".join(parts), has_null=has_null)


def _text(value: str | None) -> bytes:
    if value is None:
        return _NULL
    data = value.encode()
    return _length(len(data)) + data


def jsonbs(values: Sequence[bytes | None]) -> JsonbArray:
    """JSON text or null as ``jsonb[]`` (a version byte goes before each)."""
    parts = [
        _NULL if value is None else _length(len(value) + 1) + b"\x01" + value for value in values
    ]
    return JsonbArray(len(parts), b"".join(parts), has_null=_NULL in parts)


def numerics(values: Sequence[str]) -> NumericArray:
    """Canonical decimal texts as ``numeric[]``, exact."""
    return NumericArray(len(values), b"".join([_numeric(value) for value in values]))


def _numeric(value: str) -> bytes:
    found = _numerics.get(value)
    if found is None:
        if len(_numerics) >= _NUMERIC_CACHE_MAX:
            _numerics.clear()
        data = pack_numeric(Decimal(value))
        found = _numerics[value] = _length(len(data)) + data
    return found


def pack_numeric(number: Decimal) -> bytes:
    """A finite Decimal in numeric's binary form: base-10,000 digits around a weight."""
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    whole = "".join(map(str, digits)) + "0" * max(exponent, 0)
    scale = max(-exponent, 0)
    whole = whole.rjust(scale + 1, "0")
    integer, fraction = (whole[:-scale], whole[-scale:]) if scale else (whole, "")
    integer = integer.rjust(-(-len(integer) // 4) * 4, "0")
    fraction = fraction.ljust(-(-len(fraction) // 4) * 4, "0")
    groups = [int((integer + fraction)[at : at + 4]) for at in range(0, len(integer + fraction), 4)]
    weight = len(integer) // 4 - 1
    while groups and groups[0] == 0:
        groups.pop(0)
        weight -= 1
    while groups and groups[-1] == 0:
        groups.pop()
    if not groups:
        weight, sign = 0, 0
    return struct.pack(
        f">HhHH{len(groups)}H",
        len(groups),
        weight,
        _NEGATIVE if sign else _POSITIVE,
        scale,
        *groups,
    )
