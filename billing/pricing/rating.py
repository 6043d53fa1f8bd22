"""Rating: one price made ready for one rule set, then quantities to amounts, quickly and exactly.

Must stay true: the rows of a line sum to the line, exactly; no digit is lost before the one
rounding per line (half up, ties away from zero).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from billing.pricing.errors import (
    FiniteLastTier,
    InvalidField,
    NegativeNotAllowed,
    NotANumber,
    OutOfRange,
    UnsupportedTerm,
)
from billing.pricing.models import (
    TIERED_MODELS,
    Cliff,
    Model,
    NextUnit,
    Price,
    Rated,
    Rounding,
    Row,
    RowKind,
    RuleSet,
)
from billing.pricing.numbers import (
    DIVIDING,
    ONE,
    ZERO,
    add,
    half_up,
    multiply,
    places,
    round_running,
    subtract,
)

# Stripe: unit_amount_decimal has at most 12 decimals of a minor unit (stripe API specification).
UNIT_PLACES_MAX = 12


class Rater:
    """A price under a rule set. Build once, call often: `amount` is the hot path.

    Raises FiniteLastTier and other refusals of the rule set on construction.
    """

    __slots__ = (
        "_base", "_bounds", "_flats", "_maximum", "_minimum", "_units", "price", "rules",
    )  # fmt: skip

    def __init__(self, price: Price, rules: RuleSet) -> None:
        self.price = price
        self.rules = rules
        if rules is RuleSet.STRIPE:
            _check_stripe(price)
        drop_zero = rules is RuleSet.COMPAT  # there, 0 means "not set"
        self._minimum = None if drop_zero and not price.minimum else price.minimum
        self._maximum = None if drop_zero and not price.maximum else price.maximum
        self._bounds = [tier.up_to for tier in price.tiers if tier.up_to is not None]
        self._units = [tier.unit_amount for tier in price.tiers]
        self._flats = [tier.flat_amount for tier in price.tiers]
        if not self._charges_flat_amounts():
            self._flats = [ZERO] * len(self._flats)
        self._base = self._running_bases()

    def _charges_flat_amounts(self) -> bool:
        """Stripe adds flat amounts in both modes; the predecessor only in `graduated`."""
        if self.price.model is Model.VOLUME:
            return self.rules is RuleSet.STRIPE
        return self.price.model is Model.GRADUATED

    def _running_bases(self) -> list[Decimal]:
        """Exact amount of everything below each tier: full lower tiers with their flat amounts."""
        bases, running, lower = [], ZERO, ZERO
        for index, tier in enumerate(self.price.tiers):
            bases.append(running)
            if tier.up_to is not None:
                full = multiply(subtract(tier.up_to, lower), self._units[index])
                running = add(running, add(full, self._flats[index]))
                lower = tier.up_to
        return bases

    # -- amounts ---------------------------------------------------------------------------

    def amount(self, quantity: Decimal) -> int:
        """Rounded minor units for a quantity. The hot path: no breakdown is built."""
        return half_up(self._clip(self._exact(quantity)))

    def exact(self, quantity: Decimal) -> Decimal:
        """Unrounded minor units for a quantity, minimum and maximum applied."""
        return self._clip(self._exact(quantity))

    def _clip(self, exact: Decimal) -> Decimal:
        """Minimum first, then maximum: where they cross, the maximum wins."""
        if self._minimum is not None and exact < self._minimum:
            exact = self._minimum
        if self._maximum is not None and exact > self._maximum:
            exact = self._maximum
        return exact

    def _exact(self, quantity: Decimal) -> Decimal:
        if not quantity.is_finite() or quantity < 0:
            self._check_quantity(quantity)
        model = self.price.model
        if model is Model.FLAT:
            return multiply(quantity, self.price.unit_amount)
        if model is Model.PACKAGE:
            return multiply(self.packages(quantity), self.price.unit_amount)
        index = self._tier_of(quantity)
        if model is Model.VOLUME:
            return add(multiply(quantity, self._units[index]), self._flats[index])
        if quantity <= 0 and self.rules is RuleSet.COMPAT:
            return ZERO  # no unit entered a tier, so no flat fee either
        return self._graduated(quantity, index)

    def _graduated(self, quantity: Decimal, index: int) -> Decimal:
        lower = self._bounds[index - 1] if index else ZERO
        upper = self.price.tiers[index].up_to
        inside = subtract(quantity if upper is None or quantity <= upper else upper, lower)
        charged = add(multiply(inside, self._units[index]), self._flats[index])
        return add(self._base[index], charged)

    def _check_quantity(self, quantity: Decimal) -> None:
        if not quantity.is_finite():
            raise NotANumber("must be a finite number", path="quantity")
        if quantity < 0 and self.rules is RuleSet.STRIPE:
            raise NegativeNotAllowed("must not be negative", path="quantity")

    def _tier_of(self, quantity: Decimal) -> int:
        """Index of the tier that holds the last unit; above a finite end, the last tier."""
        return min(bisect_left(self._bounds, quantity), len(self._units) - 1)

    def packages(self, quantity: Decimal) -> Decimal:
        """Whole packages after `transform_quantity`; exact, unlike a float division."""
        transform = self.price.transform
        assert transform is not None, "a package price has a transform"
        direction = ROUND_CEILING if transform.round is Rounding.UP else ROUND_FLOOR
        whole = DIVIDING.divide_int(quantity, transform.divide_by)
        rest = DIVIDING.remainder(quantity, transform.divide_by)
        if rest > 0 and direction == ROUND_CEILING:
            return add(whole, ONE)
        if rest < 0 and direction == ROUND_FLOOR:
            return subtract(whole, ONE)
        return add(whole, ZERO)  # turns -0 into 0

    # -- lines -----------------------------------------------------------------------------

    def rate(self, quantity: Decimal) -> Rated:
        """A quantity priced with its breakdown; rows sum exactly to the amount and to `exact`."""
        base = self._exact(quantity)
        rows = self._rows(quantity)
        exact = base
        if self._minimum is not None and exact < self._minimum:
            rows.append(_adjusting(RowKind.MINIMUM, subtract(self._minimum, exact)))
            exact = self._minimum
        if self._maximum is not None and exact > self._maximum:
            rows.append(_adjusting(RowKind.MAXIMUM, subtract(self._maximum, exact)))
            exact = self._maximum
        amounts = round_running([row.exact for row in rows])
        shown = tuple(_with_amount(row, amount) for row, amount in zip(rows, amounts, strict=True))
        return Rated(quantity, base, exact, half_up(exact), shown, self._unpriced(quantity))

    def _unpriced(self, quantity: Decimal) -> Decimal:
        """Units above a finite last tier that a graduated or tiered price bills at nothing."""
        tiers = self.price.tiers
        if self.price.model is Model.VOLUME or not tiers or tiers[-1].up_to is None:
            return ZERO
        return max(ZERO, subtract(quantity, tiers[-1].up_to))

    def _rows(self, quantity: Decimal) -> list[Row]:
        model, unit = self.price.model, self.price.unit_amount
        if model is Model.FLAT:
            return _counted(RowKind.UNIT, quantity, unit)
        if model is Model.PACKAGE:
            return _counted(RowKind.PACKAGE, self.packages(quantity), unit)
        if model is Model.VOLUME:
            return self._volume_rows(quantity)
        return self._graduated_rows(quantity)

    def _volume_rows(self, quantity: Decimal) -> list[Row]:
        index = self._tier_of(quantity)
        row = self._tier_row(index, quantity)
        return [row] if row.units or row.exact else []

    def _graduated_rows(self, quantity: Decimal) -> list[Row]:
        if quantity <= 0:
            first = self._flats[0] if self.rules is RuleSet.STRIPE else ZERO
            return [self._tier_row(0, ZERO)] if first else []
        rows, lower = [], ZERO
        for index, tier in enumerate(self.price.tiers):
            if quantity <= lower:
                break
            upper = quantity if tier.up_to is None or quantity < tier.up_to else tier.up_to
            rows.append(self._tier_row(index, subtract(upper, lower)))
            lower = upper
        return rows

    def _tier_row(self, index: int, units: Decimal) -> Row:
        unit, flat = self._units[index], self._flats[index]
        return Row(
            kind=RowKind.TIER,
            units=units,
            unit_amount=unit,
            flat_amount=flat,
            exact=add(multiply(units, unit), flat),
            amount=0,
            tier=index + 1,
            over=self._bounds[index - 1] if index else ZERO,
            up_to=self.price.tiers[index].up_to,
        )

    # -- position --------------------------------------------------------------------------

    def next_unit(self, quantity: Decimal) -> NextUnit:
        """Marginal price of the next unit, the tier it falls into, and units to the next tier."""
        base = self._exact(quantity)
        marginal = subtract(self.exact(add(quantity, ONE)), self._clip(base))
        at_maximum = self._maximum is not None and base >= self._maximum
        below_minimum = self._minimum is not None and base < self._minimum
        if not self.price.tiers:
            unit = self.price.unit_amount
            return NextUnit(
                marginal, unit, None, 0, ZERO, None, None, at_maximum, below_minimum
            )  # fmt: skip
        index = min(bisect_right(self._bounds, quantity), len(self._units) - 1)
        upper = self.price.tiers[index].up_to
        return NextUnit(
            marginal=marginal,
            unit_amount=self._units[index],
            tier=index + 1,
            tier_count=len(self._units),
            tier_over=self._bounds[index - 1] if index else ZERO,
            tier_up_to=upper,
            to_next_tier=None if upper is None else max(ZERO, subtract(upper, quantity)),
            at_maximum=at_maximum,
            below_minimum=below_minimum,
        )

    def cliffs(self) -> tuple[Cliff, ...]:
        """Tier borders where one unit more changes the total by other than that unit's price."""
        found = []
        for index, bound in enumerate(self._bounds[: len(self._units) - 1]):
            cliff = Cliff(
                tier=index + 2,
                at=bound,
                before=self.exact(bound),
                after=self.exact(add(bound, ONE)),
                ordinary=self._units[index + 1],
            )
            if cliff.jump:
                found.append(cliff)
        return tuple(found)


def rate(price: Price, quantity: Decimal, rules: RuleSet) -> Rated:
    """Price one quantity with its breakdown. For many quantities keep a `Rater`."""
    return Rater(price, rules).rate(quantity)


def next_unit(price: Price, quantity: Decimal, rules: RuleSet) -> NextUnit:
    """Where `quantity` stands on the price list and what one more unit costs."""
    return Rater(price, rules).next_unit(quantity)


def _counted(kind: RowKind, units: Decimal, unit_amount: Decimal) -> list[Row]:
    if not units:
        return []
    return [Row(kind, units, unit_amount, ZERO, multiply(units, unit_amount), 0)]


def _adjusting(kind: RowKind, exact: Decimal) -> Row:
    return Row(kind, ZERO, ZERO, ZERO, exact, 0)


def _with_amount(row: Row, amount: int) -> Row:
    return Row(
        row.kind, row.units, row.unit_amount, row.flat_amount, row.exact, amount,
        row.tier, row.over, row.up_to,
    )  # fmt: skip


def _check_stripe(price: Price) -> None:
    """What Stripe refuses when a price is created (stripe API specification, tiers)."""
    _check_places(price.unit_amount, "unitPrice")
    if price.transform is not None and price.transform.divide_by % 1:
        raise InvalidField("Stripe divides by whole numbers only", path="packageSize")
    if price.model not in TIERED_MODELS:
        return
    for index, tier in enumerate(price.tiers):
        path = f"tiers[{index}]"
        _check_places(tier.unit_amount, f"{path}.unitPrice")
        if tier.up_to is not None and tier.up_to % 1:
            raise InvalidField("Stripe takes whole numbers only", path=f"{path}.upTo")
        if tier.flat_amount % 1:
            raise InvalidField("must be whole minor units at Stripe", path=f"{path}.flatPrice")
        if tier.flat_amount and price.model is Model.TIERED:
            raise UnsupportedTerm(
                "tiered has no flat fees; use graduated", path=f"{path}.flatPrice"
            )
    if price.tiers[-1].up_to is not None:
        raise FiniteLastTier(
            "the last tier must have no end, or usage above it has no price",
            path=f"tiers[{len(price.tiers) - 1}].upTo",
        )


def _check_places(amount: Decimal, path: str) -> None:
    if places(amount) > UNIT_PLACES_MAX:
        raise OutOfRange(f"must have at most {UNIT_PLACES_MAX} decimals of a minor unit", path=path)
