"""Exact numbers: how quantities are read, bounded and written.

No float ever touches a quantity. Ingest takes what Stripe can bill: at most 15
significant digits (Stripe changelog 2026-04-22.dahlia) and below 10^15. Totals are wider.
"""

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation, localcontext

TOTAL_DIGITS_MAX = 38
TOTAL_DECIMALS_MAX = 12

#: Enough precision for any sum of quantities: nothing is ever rounded implicitly.
EXACT = Context(prec=100)

_DOUBLE = Context(prec=15, rounding=ROUND_HALF_EVEN)

_PLAIN = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)


class NotANumber(ValueError):
    """The text is not a plain decimal number."""


def decimal_of(value: str | int | Decimal) -> Decimal:
    """The exact Decimal of JSON number text, an int or a Decimal.

    Raises `NotANumber` for anything else, also for what Python's Decimal would accept:
    NaN, Infinity, underscores, full-width digits, white space.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise NotANumber(f"not a number: {value!r}")
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        raise NotANumber("not a plain decimal number")
    try:
        number = Decimal(value)
    except InvalidOperation as error:
        raise NotANumber("not a plain decimal number") from error
    if not number.is_finite():
        raise NotANumber("not a finite number")
    return number


def digits_and_decimals(number: Decimal) -> tuple[int, int]:
    """Significant digits and digits after the point of ``number``, trailing zeros ignored."""
    if number == 0:
        return 1, 0
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    significant = len(digits)
    for digit in reversed(digits):
        if digit:
            break
        significant -= 1
        exponent += 1
    return significant + max(exponent, 0), max(-exponent, 0)


def plain(number: Decimal) -> str:
    """``number`` in plain notation without exponent or trailing zeros: ``0.1``, ``-3``."""
    if number == 0:
        return "0"
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def grouped(number: Decimal, places: int = 0) -> str:
    """Every digit, in groups of three, with at least ``places`` decimals: 1234.5 is 1,234.50."""
    whole, _, decimals = plain(number).partition(".")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    decimals = decimals.ljust(places, "0")
    return f"{sign}{int(digits):,}{'.' if decimals else ''}{decimals}"


def fifteen_digits(number: Decimal) -> Decimal:
    """``number`` as a double keeps it: what Stripe's sums can be compared to."""
    return _DOUBLE.plus(number)


def exact_sum(numbers: list[Decimal]) -> Decimal:
    """The sum without any rounding."""
    with localcontext(EXACT):
        return sum(numbers, Decimal(0))
