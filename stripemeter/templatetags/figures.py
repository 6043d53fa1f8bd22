"""How operator pages write numbers and states."""

import re
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
from django import template

from billing.pricing.currencies import currency_exponent
from stripemeter.lib import clock, strictjson
from stripemeter.lib.decimals import grouped

register = template.Library()

#: Where a wire name's next word begins.
_INNER_CAPITAL = re.compile(r"(?<=[a-z])[A-Z]")
#: Colour of a state's badge; a state without one is grey. The word is always there too.
_TONES = {
    "good": {
        "acknowledged",
        "done",
        "approved",
        "active",
        "parity",
        "verified",
        "applied",
        "completed",
        "delivered",
        "resolved",
    },
    "warn": {
        "unknown",
        "retry",
        "warning",
        "expired",
        "settling",
        "unread",
        "closing",
        "cancelled",
        "warn",
        "triggered",
        "snoozed",
    },
    "bad": {"needs_review", "parked", "failed", "critical", "drift", "revoked", "halted"},
}


@register.filter
def figure(value: Decimal | int | None) -> str:
    """Every digit of a quantity, in groups of three; a dash where there is none."""
    return "–" if value is None else grouped(Decimal(value))


@register.filter
def amount(value: Decimal | None) -> str:
    """Money in major units with the currency's places; a dash where there is none."""
    return "–" if value is None else f"{value:,f}"


@register.filter
def money(minor: Decimal | int | None, currency: str | None) -> str:
    """Money kept in minor units as people write it: 1250 in usd is ``12.50 USD``."""
    if minor is None or not currency:
        return "–"
    places = currency_exponent(currency)
    return f"{grouped(Decimal(minor).scaleb(-places), places)} {currency.upper()}"


@register.filter
def unit_price(major: Decimal | None, currency: str | None) -> str:
    """A price per unit with every digit it has, and at least the currency's own places."""
    if major is None or not currency:
        return "–"
    return f"{grouped(major, currency_exponent(currency))} {currency.upper()}"


@register.filter
def json(value: Any) -> str:
    """A stored document as JSON, as it came in or would go out, one member a line."""
    return msgspec.json.format(strictjson.dumps_sorted(value), indent=2).decode()


@register.filter
def tone(state: str) -> str:
    """The CSS class of a state's badge."""
    return next((name for name, states in _TONES.items() if state in states), "")


@register.filter
def words(state: str) -> str:
    """A code (``lost_at_stripe``, ``seenAs``) as words; names keep their capital."""
    parted = _INNER_CAPITAL.sub(lambda found: f" {found[0].lower()}", str(state))
    return parted.replace("_", " ").replace("stripe", "Stripe")


@register.filter
def countdown(instant: datetime | None) -> str:
    """How long until ``instant``, or since, in its two largest units."""
    if instant is None:
        return "–"
    seconds = int((instant - clock.now()).total_seconds())
    if not seconds:
        return "now"
    days, rest = divmod(abs(seconds), 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, rest = divmod(rest, 60)
    if days:
        text = f"{days} d {hours} h"
    elif hours:
        text = f"{hours} h {minutes} min"
    else:
        text = f"{minutes} min" if minutes else f"{rest} s"
    return f"in {text}" if seconds >= 0 else f"{text} ago"
