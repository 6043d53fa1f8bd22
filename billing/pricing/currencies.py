"""Minor-unit exponents: how many decimal places an amount of a currency carries on Stripe's wire.

Source: Stripe's currency page as summarised with each table. Amounts are integers in these minor
units everywhere; nothing multiplies by 100.
"""

from __future__ import annotations

from typing import Final

from billing.pricing.errors import InvalidCurrency

# The amount on the wire is whole units.
ZERO_DECIMAL: Final = frozenset(
    {
        "BIF",
        "CLP",
        "DJF",
        "GNF",
        "JPY",
        "KMF",
        "KRW",
        "MGA",
        "PYG",
        "RWF",
        "UGX",
        "VND",
        "VUV",
        "XAF",
        "XOF",
        "XPF",
    }
)
# The amount on the wire is thousandths; card charges need the last digit to be 0.
THREE_DECIMAL: Final = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})

DEFAULT_EXPONENT: Final = 2

# Facts the exponent alone does not tell.
NOTES: Final = {
    "ISK": "has no minor unit in circulation, yet Stripe takes it in two-decimal form "
    "(the last two digits are 00)",
    "UGX": "lists disagree: Stripe's page names it as zero-decimal, other copies omit it; "
    "zero-decimal is used here",
    "HUF": "two-decimal for charges; only payouts need whole forints",
    "TWD": "two-decimal for charges; only payouts need whole dollars",
}


def currency_code(value: object, *, path: str = "currency") -> str:
    """The upper-case three-letter code; anything else raises InvalidCurrency."""
    if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isalpha():
        return value.upper()
    raise InvalidCurrency("must be a three-letter currency code", path=path)


def currency_exponent(currency: str) -> int:
    """Decimal places of one currency's minor unit: USD 2, JPY 0, KWD 3."""
    code = currency_code(currency)
    if code in ZERO_DECIMAL:
        return 0
    if code in THREE_DECIMAL:
        return 3
    return DEFAULT_EXPONENT
