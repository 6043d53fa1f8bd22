"""Reading documents field by field: both spellings, no unknown names, and a path in every error."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Final, TypeVar

from billing.pricing.errors import InvalidField, MissingField, PricingError
from billing.pricing.numbers import not_negative, to_decimal

# Free annotations, allowed and ignored on every object.
ANNOTATIONS: Final = frozenset({"id", "name", "description", "notes", "metadata"})

TEXT_MAX: Final = 255

_Choice = TypeVar("_Choice", bound=StrEnum)


@lru_cache(maxsize=1024)
def snake(name: str) -> str:
    """`unitPrice` and `unit_price` are one field."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


@lru_cache(maxsize=1024)
def camel(name: str) -> str:
    """The wire spelling of a snake_case name."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


@contextmanager
def at(path: str) -> Iterator[None]:
    """Give errors raised inside their place in the document, unless they already carry it."""
    try:
        yield
    except PricingError as error:
        inner = error.path
        if not path or inner == path or inner.startswith((f"{path}.", f"{path}[")):
            raise
        joined = f"{path}.{inner}" if inner else path
        raise type(error)(error.detail, path=joined) from None


class Fields:
    """The fields of one object under either spelling.

    Raises InvalidField for anything but a mapping, for unknown names and for a field given in
    both spellings. `path` is the object's own place in the document.
    """

    __slots__ = ("_values", "path")

    def __init__(self, value: object, path: str, allowed: frozenset[str]) -> None:
        self.path = path
        if not isinstance(value, Mapping):
            raise InvalidField("must be an object", path=path)
        self._values: dict[str, object] = {}
        for key, item in value.items():
            name = snake(key) if isinstance(key, str) else ""
            if name not in allowed and name not in ANNOTATIONS:
                raise InvalidField("unknown field", path=self._join(str(key)[:TEXT_MAX]))
            if name in self._values:
                raise InvalidField("is given twice", path=self.path_of(name))
            self._values[name] = item

    def _join(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def path_of(self, name: str) -> str:
        """Where a field stands in the document, in the wire spelling."""
        return self._join(camel(name))

    def get(self, name: str) -> object:
        """The raw value; None when absent."""
        return self._values.get(name)

    def has(self, name: str) -> bool:
        """Whether the field is present and not null."""
        return self._values.get(name) is not None

    def require(self, name: str) -> object:
        """The raw value; absent or null raises MissingField."""
        value = self._values.get(name)
        if value is None:
            raise MissingField("is required", path=self.path_of(name))
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """Text of 1 to 255 characters without control characters."""
        value = self.get(name)
        if value is None and default is not None:
            return default
        value = self.require(name)
        if not isinstance(value, str):
            raise InvalidField("must be text", path=self.path_of(name))
        if len(value) > TEXT_MAX or (not value and default is None):
            raise InvalidField(f"must have 1 to {TEXT_MAX} characters", path=self.path_of(name))
        if not value.isprintable():
            raise InvalidField("must not hold control characters", path=self.path_of(name))
        return value

    def number(self, name: str) -> Decimal | None:
        """A finite number, or None when absent."""
        value = self.get(name)
        return None if value is None else to_decimal(value, self.path_of(name))

    def amount(self, name: str) -> Decimal | None:
        """A number not below zero, or None when absent."""
        value = self.get(name)
        return None if value is None else not_negative(value, self.path_of(name))

    def require_number(self, name: str) -> Decimal:
        """A finite number; absent raises MissingField."""
        return to_decimal(self.require(name), self.path_of(name))

    def require_amount(self, name: str) -> Decimal:
        """A number not below zero; absent raises MissingField."""
        return not_negative(self.require(name), self.path_of(name))

    def choice(self, name: str, choices: type[_Choice], default: _Choice) -> _Choice:
        """One of an enumeration's values."""
        value = self.get(name)
        if value is None:
            return default
        try:
            return choices(value)  # type: ignore[arg-type]
        except ValueError:
            listed = ", ".join(item.value for item in choices)
            raise InvalidField(f"must be one of {listed}", path=self.path_of(name)) from None

    def flag(self, name: str, *, default: bool) -> bool:
        """A boolean."""
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise InvalidField("must be true or false", path=self.path_of(name))
        return value

    def items(self, name: str, *, at_most: int) -> list[tuple[str, object]]:
        """A list's members with their paths; absent means empty."""
        value = self.get(name)
        if value is None:
            return []
        path = self.path_of(name)
        if not isinstance(value, list | tuple):
            raise InvalidField("must be a list", path=path)
        if len(value) > at_most:
            raise InvalidField(f"must have at most {at_most} members", path=path)
        return [(f"{path}[{index}]", item) for index, item in enumerate(value)]

    def names(self, name: str) -> frozenset[str] | None:
        """A list of names, or None when absent."""
        members = self.items(name, at_most=1000)
        if not self.has(name):
            return None
        for path, member in members:
            if not isinstance(member, str) or not member:
                raise InvalidField("must be text", path=path)
        return frozenset(str(member) for _, member in members)

    def instant(self, name: str) -> datetime | None:
        """An instant in UTC, or None when absent."""
        value = self.get(name)
        return None if value is None else to_instant(value, self.path_of(name))

    def require_instant(self, name: str) -> datetime:
        """An instant in UTC; absent raises MissingField."""
        return to_instant(self.require(name), self.path_of(name))


def to_instant(value: object, path: str) -> datetime:
    """An aware UTC datetime from ISO 8601 text, a datetime or a date (its midnight, UTC)."""
    if isinstance(value, str) and 10 <= len(value) <= 40:
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise InvalidField("must be an ISO 8601 date or time", path=path) from None
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        try:
            return aware.astimezone(UTC)
        except OverflowError:
            raise InvalidField("is out of range", path=path) from None
    if isinstance(value, date):
        return datetime.combine(value, time(), tzinfo=UTC)
    raise InvalidField("must be an ISO 8601 date or time", path=path)
