"""Money, numbers and dates as the customer's locale writes them (CLDR, through Babel)."""

from datetime import date, datetime
from decimal import Decimal

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_datetime
from babel.numbers import format_currency, format_decimal
from django import template
from django.utils.translation import get_language

register = template.Library()


def _locale() -> Locale:
    try:
        return Locale.parse(get_language() or "en", sep="-")
    except (UnknownLocaleError, ValueError):
        return Locale("en")


@register.filter
def money(amount: Decimal | None, currency: str | None) -> str:
    """``amount`` in ``currency``; empty while either is unknown."""
    if amount is None or not currency:
        return ""
    return format_currency(amount, currency.upper(), locale=_locale())


@register.filter
def unit_money(amount: Decimal | None, currency: str | None) -> str:
    """A price per unit with every digit it has: a price of 0.0002 is not 0.00."""
    if amount is None or not currency:
        return ""
    return format_currency(
        amount.normalize(), currency.upper(), locale=_locale(), decimal_quantization=False
    )


@register.filter
def quantity(value: Decimal | int | None) -> str:
    """``value`` with every digit, grouped as the locale groups."""
    if value is None:
        return ""
    return format_decimal(value, locale=_locale(), decimal_quantization=False)


@register.filter
def day(value: date | datetime | None) -> str:
    """A date of medium length."""
    return format_date(value, format="medium", locale=_locale()) if value else ""


@register.filter
def moment(value: datetime | None) -> str:
    """A date and time in UTC, of medium length."""
    return format_datetime(value, format="medium", locale=_locale()) if value else ""
