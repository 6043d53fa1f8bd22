"""What must hold for every price and quantity, not only for the published ones."""

from __future__ import annotations

from decimal import Decimal
from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from billing.pricing import (
    Model,
    Price,
    Rater,
    Rounding,
    RuleSet,
    Tier,
    TransformQuantity,
)
from billing.pricing.numbers import add, subtract

RULES = st.sampled_from(list(RuleSet))
QUANTITIES = st.decimals(
    min_value=0, max_value=10**15, places=6, allow_nan=False, allow_infinity=False
)
WIDE = st.decimals(min_value=0, max_value=Decimal("9" * 26), places=12)
UNITS = st.decimals(min_value=0, max_value=10_000, places=12)
FLATS = st.integers(min_value=0, max_value=100_000).map(Decimal)


@st.composite
def tier_lists(draw: st.DrawFn, *, flats: bool = True) -> tuple[Tier, ...]:
    bounds = draw(st.lists(st.integers(1, 10**9), unique=True, max_size=5).map(sorted))
    return tuple(
        Tier(
            None if bound is None else Decimal(bound),
            draw(UNITS),
            draw(FLATS) if flats else Decimal(0),
        )
        for bound in [*bounds, None]
    )


def price(model: Model, **more: object) -> Price:
    return Price(model=model, currency="USD", **more)  # type: ignore[arg-type]


GRADUATED = tier_lists().map(lambda tiers: price(Model.GRADUATED, tiers=tiers))
VOLUME = tier_lists().map(lambda tiers: price(Model.VOLUME, tiers=tiers))
TIERED = tier_lists(flats=False).map(lambda tiers: price(Model.TIERED, tiers=tiers))
FLAT = UNITS.map(lambda unit: price(Model.FLAT, unit_amount=unit))
PACKAGE = st.builds(
    lambda unit, size, way: price(
        Model.PACKAGE, unit_amount=unit, transform=TransformQuantity(Decimal(size), way)
    ),
    UNITS,
    st.integers(1, 10**6),
    st.sampled_from(list(Rounding)),
)
LIMITS = st.one_of(st.none(), st.decimals(min_value=0, max_value=10**9, places=3))


@st.composite
def any_price(draw: st.DrawFn) -> Price:
    base = draw(st.one_of(GRADUATED, VOLUME, TIERED, FLAT, PACKAGE))
    return Price(
        model=base.model,
        currency="USD",
        unit_amount=base.unit_amount,
        tiers=base.tiers,
        transform=base.transform,
        minimum=draw(LIMITS),
        maximum=draw(LIMITS),
    )


@given(any_price(), WIDE, RULES)
def test_the_breakdown_sums_to_the_line_exactly(
    item: Price, quantity: Decimal, rules: RuleSet
) -> None:
    rated = Rater(item, rules).rate(quantity)
    assert sum(row.amount for row in rated.rows) == rated.amount
    # Not sum(): the default context would round to 28 digits.
    assert reduce(add, [row.exact for row in rated.rows], Decimal(0)) == rated.exact


@given(any_price(), WIDE, RULES)
def test_the_quick_amount_is_the_rated_amount(
    item: Price, quantity: Decimal, rules: RuleSet
) -> None:
    rater = Rater(item, rules)
    assert rater.amount(quantity) == rater.rate(quantity).amount


@given(st.one_of(GRADUATED, TIERED, FLAT, PACKAGE), QUANTITIES, QUANTITIES, RULES)
def test_more_usage_never_costs_less_except_by_volume(
    item: Price, one: Decimal, other: Decimal, rules: RuleSet
) -> None:
    less, more = sorted((one, other))
    rater = Rater(item, rules)
    assert rater.amount(less) <= rater.amount(more)


@given(GRADUATED, st.lists(QUANTITIES, min_size=1, max_size=6))
def test_graduated_split_into_steps_costs_the_same_as_at_once(
    item: Price, parts: list[Decimal]
) -> None:
    """Charging each step its marginal cost adds up to the whole, however usage is split."""
    rater = Rater(item, RuleSet.COMPAT)
    seen = charged = Decimal(0)
    for part in parts:
        step = subtract(rater.exact(add(seen, part)), rater.exact(seen))
        charged, seen = add(charged, step), add(seen, part)
    assert charged == rater.exact(seen)


@given(GRADUATED, QUANTITIES, st.integers(1, 10**9))
def test_splitting_a_tier_in_two_changes_nothing(item: Price, quantity: Decimal, cut: int) -> None:
    tiers, lower = [], Decimal(0)
    for tier in item.tiers:
        flatless = Tier(tier.up_to, tier.unit_amount)
        inside = lower < cut and (tier.up_to is None or cut < tier.up_to)
        if inside:
            tiers.append(Tier(Decimal(cut), tier.unit_amount))
        tiers.append(flatless)
        lower = tier.up_to or lower
    whole = price(Model.GRADUATED, tiers=tuple(Tier(t.up_to, t.unit_amount) for t in item.tiers))
    split = price(Model.GRADUATED, tiers=tuple(tiers))
    for rules in RuleSet:
        assert Rater(whole, rules).exact(quantity) == Rater(split, rules).exact(quantity)


@given(UNITS, WIDE, RULES)
def test_flat_agrees_with_one_tier_of_any_kind(
    unit: Decimal, quantity: Decimal, rules: RuleSet
) -> None:
    one = (Tier(None, unit),)
    expected = Rater(price(Model.FLAT, unit_amount=unit), rules).exact(quantity)
    for model in (Model.GRADUATED, Model.VOLUME, Model.TIERED):
        assert Rater(price(model, tiers=one), rules).exact(quantity) == expected


@given(UNITS, st.integers(0, 10**9).map(Decimal), RULES)
def test_a_package_of_one_agrees_with_flat(
    unit: Decimal, quantity: Decimal, rules: RuleSet
) -> None:
    single = price(Model.PACKAGE, unit_amount=unit, transform=TransformQuantity(Decimal(1)))
    flat = price(Model.FLAT, unit_amount=unit)
    assert Rater(single, rules).exact(quantity) == Rater(flat, rules).exact(quantity)


@given(GRADUATED, QUANTITIES)
def test_the_rule_sets_agree_on_graduated_above_zero(item: Price, quantity: Decimal) -> None:
    if quantity > 0:
        compat, stripe = (Rater(item, rules).exact(quantity) for rules in RuleSet)
        assert compat == stripe


@given(any_price(), QUANTITIES, RULES)
def test_the_next_unit_is_the_difference_it_makes(
    item: Price, quantity: Decimal, rules: RuleSet
) -> None:
    rater = Rater(item, rules)
    step = rater.next_unit(quantity)
    assert step.marginal == subtract(rater.exact(quantity + 1), rater.exact(quantity))
    if step.tier is not None and step.to_next_tier is not None:
        assert step.tier_over <= quantity < quantity + step.to_next_tier == step.tier_up_to


@given(any_price(), QUANTITIES, RULES)
def test_minimum_and_maximum_bound_the_line(item: Price, quantity: Decimal, rules: RuleSet) -> None:
    amount = Rater(item, rules).exact(quantity)
    unset = (None, 0) if rules is RuleSet.COMPAT else (None,)
    capped = item.maximum not in unset
    if capped:
        assert amount <= item.maximum
    if item.minimum not in unset and not (capped and item.maximum < item.minimum):
        assert amount >= item.minimum
