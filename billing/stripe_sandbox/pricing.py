"""What a quantity costs under a price of Stripe's, in minor units.

Rules (DOC unless noted): tiers are inclusive of `up_to`; graduated charges each
tier's units and the flat amount of each entered tier, volume all units at the
tier reached; a quantity of 0 charges the first tier's flat amount in both modes;
`transform_quantity` divides, then rounds. Amounts are rounded once per line, half
up (unverified for ties), after quantity times decimal amount.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from typing import Any

from billing.stripe_sandbox.errors import Failure
from billing.stripe_sandbox.store import Doc


@dataclass(frozen=True, slots=True)
class Charge:
    """One priced part of a quantity: the whole of it, or its share in one tier."""

    quantity: Decimal
    amount: Decimal
    """Exact, in minor units; `rounded` is what an invoice line shows."""
    unit_amount: str | None
    label: str = ""

    @property
    def rounded(self) -> int:
        """Returns the amount of the line: whole minor units, half up."""
        return round_half_up(self.amount)


def round_half_up(amount: Decimal) -> int:
    """Returns whole minor units; ties go away from zero."""
    return int(amount.quantize(Decimal(1), rounding=ROUND_HALF_UP))


def amounts_in(price: Doc, currency: str) -> dict[str, Any]:
    """Returns the price's amounts in a currency, its own or an option.

    Raises the refusal that Stripe gives for a currency that the price lacks.
    """
    option: dict[str, Any] | None = price["currency_options"].get(currency)
    if option is None:
        raise Failure(
            f"The price specified only supports `{price['currency']}`. This doesn't match the "
            f"expected currency: `{currency}`.",
            param="currency",
        )
    return option


def _transformed(price: Doc, quantity: Decimal) -> Decimal:
    """Returns the quantity after `transform_quantity`."""
    rule = price["transform_quantity"]
    if not rule:
        return quantity
    rounding = ROUND_CEILING if rule["round"] == "up" else ROUND_FLOOR
    return (quantity / Decimal(rule["divide_by"])).to_integral_value(rounding=rounding)


def _part(tier: Doc, quantity: Decimal, number: int) -> Charge:
    """Returns the charge of a quantity inside one tier."""
    unit = Decimal(tier["unit_amount_decimal"] or 0)
    flat = Decimal(tier["flat_amount_decimal"] or 0)
    return Charge(quantity, quantity * unit + flat, tier["unit_amount_decimal"], f"Tier {number}")


def _graduated(tiers: list[Doc], quantity: Decimal) -> list[Charge]:
    """Returns one charge per entered tier; the first is always entered."""
    charges = [_part(tiers[0], _within(quantity, Decimal(), tiers[0]["up_to"]), 1)]
    floor = tiers[0]["up_to"]
    for number, tier in enumerate(tiers[1:], start=2):
        if floor is None or quantity <= floor:
            break
        charges.append(_part(tier, _within(quantity, Decimal(floor), tier["up_to"]), number))
        floor = tier["up_to"]
    return charges


def _within(quantity: Decimal, floor: Decimal, up_to: int | None) -> Decimal:
    """Returns how much of the quantity lies above `floor` and up to `up_to`."""
    top = quantity if up_to is None else min(quantity, Decimal(up_to))
    return max(top - floor, Decimal())


def _volume(tiers: list[Doc], quantity: Decimal) -> list[Charge]:
    """Returns the one charge of the tier that the whole quantity reaches."""
    for number, tier in enumerate(tiers, start=1):
        if tier["up_to"] is None or quantity <= tier["up_to"]:
            return [_part(tier, quantity, number)]
    raise AssertionError("tiers end in inf")


def charges(price: Doc, currency: str, quantity: Decimal) -> list[Charge]:
    """Returns the parts of what a quantity costs; a negative quantity counts as 0."""
    quantity = max(quantity, Decimal())
    amounts = amounts_in(price, currency)
    if price["billing_scheme"] == "tiered":
        tiers = amounts.get("tiers") or price["tiers"]
        parts = _graduated if price["tiers_mode"] == "graduated" else _volume
        return parts(tiers, quantity)
    unit = amounts["unit_amount_decimal"] or "0"
    return [Charge(quantity, _transformed(price, quantity) * Decimal(unit), unit)]


def merged(parts: list[Charge]) -> Charge:
    """Returns the parts as one line: quantities and exact amounts added up."""
    if len(parts) == 1:
        return parts[0]
    return Charge(
        sum((part.quantity for part in parts), Decimal()),
        sum((part.amount for part in parts), Decimal()),
        None,
    )
