"""Exact arithmetic: one way into Decimal, one context that never loses a digit, one rounding."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import (
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
)
from typing import Final

from billing.pricing.errors import NegativeNotAllowed, NotANumber, OutOfRange

ZERO: Final = Decimal(0)
ONE: Final = Decimal(1)

# A quantity has at most 38 digits, an amount at most 38: products and sums fit in 120 with room
# for any invoice. A lost digit is an exception, never a silent rounding.
EXACT: Final = Context(
    prec=120, rounding=ROUND_HALF_UP, traps=[InvalidOperation, DivisionByZero, Overflow, Inexact]
)
# Divisions (tax inside a price, shares, average prices) may be inexact; they are rounded once.
DIVIDING: Final = Context(
    prec=120, rounding=ROUND_HALF_UP, traps=[InvalidOperation, DivisionByZero, Overflow]
)

DIGITS_MAX: Final = 38
PLACES_MAX: Final = 20

add = EXACT.add
subtract = EXACT.subtract
multiply = EXACT.multiply
divide = DIVIDING.divide


def to_decimal(value: object, path: str) -> Decimal:
    """A finite Decimal from int, Decimal, numeric text or a float's shortest text.

    Floats only reach us from parsed JSON or YAML and Python callers; their shortest repr is what
    the author wrote. Booleans, NaN, infinities and other text raise NotANumber; more than 38
    digits or 20 decimals raise OutOfRange.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise NotANumber("must be a number", path=path)
    if isinstance(value, str) and (len(value) > 64 or value != value.strip() or "_" in value):
        raise NotANumber("must be a number", path=path)
    if isinstance(value, int) and value.bit_length() > 128:
        raise OutOfRange(f"must have at most {DIGITS_MAX} digits", path=path)
    try:
        number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    except (InvalidOperation, ValueError):
        raise NotANumber("must be a number", path=path) from None
    if not number.is_finite():
        raise NotANumber("must be a finite number", path=path)
    _check_size(number, path)
    return number


def _check_size(number: Decimal, path: str) -> None:
    """Bound digits on both sides of the point, so that 1e400 and 1e-400 are refused cheaply."""
    if not number:
        return
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int), "finite numbers have an integer exponent"
    if len(digits) > DIGITS_MAX or len(digits) + exponent > DIGITS_MAX:
        raise OutOfRange(f"must have at most {DIGITS_MAX} digits", path=path)
    if exponent < -(PLACES_MAX + DIGITS_MAX) or places(number) > PLACES_MAX:
        raise OutOfRange(f"must have at most {PLACES_MAX} decimals", path=path)


def not_negative(value: object, path: str) -> Decimal:
    """As `to_decimal`, and not below zero."""
    number = to_decimal(value, path)
    if number < 0:
        raise NegativeNotAllowed("must not be negative", path=path)
    return number


def half_up(amount: Decimal) -> int:
    """The nearest integer; a tie goes away from zero. All money is rounded here."""
    return int(amount.to_integral_value(rounding=ROUND_HALF_UP))


def places(number: Decimal) -> int:
    """Decimals that carry a digit: 1.50 has one, 100 none."""
    exponent = number.normalize(EXACT).as_tuple().exponent
    assert isinstance(exponent, int), "finite numbers have an integer exponent"
    return max(0, -exponent)


def plain(number: Decimal) -> str:
    """Plain notation without trailing zeros: never an exponent, never a lost digit."""
    return f"{number.normalize(EXACT):f}" if number else "0"


def scale(number: Decimal, exponent: int) -> Decimal:
    """Move the point `exponent` places: major to minor units (negative: back). Exact."""
    return number.scaleb(exponent, EXACT)


def major(amount_minor: int | Decimal, exponent: int) -> Decimal:
    """Major units of an amount, written with the currency's places: 22000 in USD is 220.00."""
    return Decimal(amount_minor).scaleb(-exponent, EXACT)


def round_running(exacts: Sequence[Decimal]) -> list[int]:
    """Integers that sum to the rounded sum: each is the step of the rounded running total.

    So a breakdown always adds up to its line, and no part is more than one minor unit off.
    """
    parts: list[int] = []
    running, shown = ZERO, 0
    for exact in exacts:
        running = add(running, exact)
        rounded = half_up(running)
        parts.append(rounded - shown)
        shown = rounded
    return parts


def allocate(total: int, weights: Sequence[int]) -> list[int]:
    """Split `total` over non-negative `weights`; the parts sum to it and none exceeds its weight.

    Requires 0 <= total <= sum(weights). Parts follow the running share, floored.
    """
    whole = sum(weights)
    assert 0 <= total <= whole, "cannot allocate more than there is"
    parts: list[int] = []
    running = given = 0
    for weight in weights:
        running += weight
        upto = total * running // whole if whole else 0
        parts.append(upto - given)
        given = upto
    return parts
