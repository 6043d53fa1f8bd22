"""The predecessor's three price functions: a quantity and tiers in major units, a total back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from billing.pricing.compat import COMPAT_EXPONENT
from billing.pricing.models import Model, Price, Rated, RuleSet
from billing.pricing.numbers import ZERO, major, to_decimal
from billing.pricing.rating import rate
from billing.pricing.sources import price_from_config


@dataclass(frozen=True, slots=True)
class ClassicRow:
    """One tier of a total, in major units. Unlike the predecessor's, rows add up to the total."""

    tier: int
    units: Decimal
    unit_price: Decimal
    flat_fee: Decimal
    subtotal: Decimal


@dataclass(frozen=True, slots=True)
class ClassicPrice:
    """Total and breakdown in major units."""

    total: Decimal
    breakdown: tuple[ClassicRow, ...]


@dataclass(frozen=True, slots=True)
class ClassicVolume:
    """Total, the tier that applied (counting from 1) and its price, in major units."""

    total: Decimal
    tier_used: int
    unit_price: Decimal


def calculate_tiered_price(quantity: object, tiers: Sequence[object]) -> ClassicPrice:
    """Units fill the tiers in order; flat prices are ignored."""
    return _classic(_rate(Model.TIERED, quantity, tiers)[1])


def calculate_graduated_price(quantity: object, tiers: Sequence[object]) -> ClassicPrice:
    """As tiered, plus the flat price of every tier that receives a unit."""
    return _classic(_rate(Model.GRADUATED, quantity, tiers)[1])


def calculate_volume_price(quantity: object, tiers: Sequence[object]) -> ClassicVolume:
    """All units at the price of the tier the quantity reaches."""
    price, rated = _rate(Model.VOLUME, quantity, tiers)
    row = rated.rows[0] if rated.rows else None
    unit = row.unit_amount if row is not None else price.tiers[0].unit_amount
    return ClassicVolume(
        total=major(rated.amount, COMPAT_EXPONENT),
        tier_used=row.tier if row is not None and row.tier is not None else 1,
        unit_price=major(unit, COMPAT_EXPONENT),
    )


def _rate(model: Model, quantity: object, tiers: Sequence[object]) -> tuple[Price, Rated]:
    config = {"model": model.value, "tiers": list(tiers)}
    price = price_from_config(config, rules=RuleSet.COMPAT)
    return price, rate(price, to_decimal(quantity, "quantity"), RuleSet.COMPAT)


def _classic(rated: Rated) -> ClassicPrice:
    rows = tuple(
        ClassicRow(
            tier=row.tier or 1,
            units=row.units,
            unit_price=major(row.unit_amount, COMPAT_EXPONENT),
            flat_fee=major(row.flat_amount, COMPAT_EXPONENT) if row.flat_amount else ZERO,
            subtotal=major(row.amount, COMPAT_EXPONENT),
        )
        for row in rated.rows
    )
    return ClassicPrice(major(rated.amount, COMPAT_EXPONENT), rows)
