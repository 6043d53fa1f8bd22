"""Frozen, typed values of the pricing library: what a price is and what rating it gave.

Amounts are in minor units of the price's currency: Decimal where a unit price may carry a
fraction of a cent, int once rounded. `Price` refuses shapes that have no meaning under any rule
set; `billing.pricing.rating.Rater` adds the refusals of the Stripe rule set.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Final

from billing.pricing.errors import (
    InvalidField,
    MissingTiers,
    NegativeNotAllowed,
    UnsortedTiers,
)
from billing.pricing.numbers import ZERO

# Far above any price list; bounds the work one request can ask for.
TIERS_MAX: Final = 1000


class RuleSet(StrEnum):
    """Whose arithmetic: the predecessor's published numbers, or Stripe's."""

    COMPAT = "compat"
    STRIPE = "stripe"


class Model(StrEnum):
    """How a quantity becomes an amount."""

    FLAT = "flat"
    PACKAGE = "package"
    GRADUATED = "graduated"
    VOLUME = "volume"
    TIERED = "tiered"


TIERED_MODELS: Final = frozenset({Model.GRADUATED, Model.VOLUME, Model.TIERED})


class Rounding(StrEnum):
    """Direction of `transform_quantity`."""

    UP = "up"
    DOWN = "down"


class TaxBehavior(StrEnum):
    """Whether tax comes on top of an amount or is contained in it."""

    EXCLUSIVE = "exclusive"
    INCLUSIVE = "inclusive"


@dataclass(frozen=True, slots=True)
class Tier:
    """Units to `up_to` inclusive (None: no end) at `unit_amount`, plus `flat_amount` once."""

    up_to: Decimal | None
    unit_amount: Decimal = ZERO
    flat_amount: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class TransformQuantity:
    """Divide the quantity, then round to a whole number of packages."""

    divide_by: Decimal
    round: Rounding = Rounding.UP


@dataclass(frozen=True, slots=True)
class Price:
    """One price in one currency; amounts in minor units, `exponent` places below the major unit."""

    model: Model
    currency: str
    exponent: int = 2
    unit_amount: Decimal = ZERO
    tiers: tuple[Tier, ...] = ()
    transform: TransformQuantity | None = None
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    tax_behavior: TaxBehavior | None = None
    price_id: str = ""

    def __post_init__(self) -> None:
        """Refuse what no rule set can price: bad tiers, negative amounts, an empty package."""
        _check_amounts(self)
        if self.model in TIERED_MODELS:
            _check_tiers(self.tiers)
        elif self.tiers:
            raise InvalidField(f"a {self.model} price has no tiers", path="tiers")
        if self.model is Model.PACKAGE and self.transform is None:
            raise InvalidField("a package price needs a package size", path="packageSize")
        if self.model is not Model.PACKAGE and self.transform is not None:
            raise InvalidField("only a package price divides the quantity", path="transform")
        if self.transform is not None and self.transform.divide_by <= 0:
            raise InvalidField("must be greater than zero", path="packageSize")


def _check_amounts(price: Price) -> None:
    named = (
        ("unitPrice", price.unit_amount),
        ("minimumCharge", price.minimum),
        ("maximumCharge", price.maximum),
    )
    for path, amount in named:
        if amount is not None and amount < 0:
            raise NegativeNotAllowed("must not be negative", path=path)


def _check_tiers(tiers: tuple[Tier, ...]) -> None:
    """Bounds rise strictly from above zero; only the last tier may be open."""
    if not tiers:
        raise MissingTiers("must list at least one tier", path="tiers")
    if len(tiers) > TIERS_MAX:
        raise InvalidField(f"must have at most {TIERS_MAX} tiers", path="tiers")
    lower = ZERO
    for index, tier in enumerate(tiers):
        path = f"tiers[{index}]"
        if tier.unit_amount < 0 or tier.flat_amount < 0:
            raise NegativeNotAllowed("amounts must not be negative", path=path)
        if tier.up_to is None:
            if index != len(tiers) - 1:
                raise UnsortedTiers("only the last tier may have no end", path=f"{path}.upTo")
        elif tier.up_to <= lower:
            raise UnsortedTiers(f"must be greater than {lower}", path=f"{path}.upTo")
        else:
            lower = tier.up_to


class RowKind(StrEnum):
    """What a breakdown row charges for."""

    UNIT = "unit"
    PACKAGE = "package"
    TIER = "tier"
    MINIMUM = "minimum"
    MAXIMUM = "maximum"


@dataclass(frozen=True, slots=True)
class Row:
    """One part of a line. `amount` is the rounded share; the shares sum exactly to the line."""

    kind: RowKind
    units: Decimal
    unit_amount: Decimal
    flat_amount: Decimal
    exact: Decimal
    amount: int
    tier: int | None = None
    over: Decimal = ZERO
    up_to: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Rated:
    """A quantity priced: `amount` is the rounded minor units, `exact` the value before rounding.

    `base` is the exact value before minimum and maximum. `unpriced` counts units above a finite
    last tier, which the compat rules bill at nothing.
    """

    quantity: Decimal
    base: Decimal
    exact: Decimal
    amount: int
    rows: tuple[Row, ...]
    unpriced: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class NextUnit:
    """Where a customer stands on the price list and what one more unit costs (minor units).

    `marginal` includes flat fees, minimum and maximum, so it can be zero (cap reached) or, on a
    volume price, negative (the next unit makes all units cheaper). `tier` counts from 1; it is
    None for prices without tiers. `to_next_tier` units still fit into the tier (None: no end).
    """

    marginal: Decimal
    unit_amount: Decimal
    tier: int | None
    tier_count: int
    tier_over: Decimal
    tier_up_to: Decimal | None
    to_next_tier: Decimal | None
    at_maximum: bool
    below_minimum: bool


@dataclass(frozen=True, slots=True)
class Cliff:
    """A tier border where the total jumps: `before` at `at`, `after` one unit further."""

    tier: int
    at: Decimal
    before: Decimal
    after: Decimal
    ordinary: Decimal = field(default=ZERO)

    @property
    def jump(self) -> Decimal:
        """What crossing the border costs beyond the next tier's own unit price."""
        return self.after - self.before - self.ordinary
