"""Stripe's own worked numbers (docs.stripe.com pages on tiered pricing and prices), in cents."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import stripe

from billing.pricing import InvalidField, Price, RuleSet, Tier, price_from_stripe, rate

SIMPLE = [(5, 700, 0), (10, 650, 0), ("inf", 600, 0)]
FLAT = [(5, 500, 1000), (10, 400, 2000), (15, 300, 3000), (20, 200, 4000), ("inf", 100, 5000)]


def tiered(mode: str, rows: list[tuple[Any, int, int]]) -> dict[str, Any]:
    tiers = [
        {
            "up_to": None if up_to == "inf" else up_to,
            "unit_amount": unit,
            "unit_amount_decimal": str(unit),
            "flat_amount": flat or None,
            "flat_amount_decimal": str(flat) if flat else None,
        }
        for up_to, unit, flat in rows
    ]
    return {
        "id": "price_1",
        "object": "price",
        "currency": "usd",
        "billing_scheme": "tiered",
        "tiers_mode": mode,
        "tiers": tiers,
        "unit_amount": None,
        "unit_amount_decimal": None,
        "transform_quantity": None,
    }


def amount(price: dict[str, Any], quantity: object) -> int:
    rated = rate(price_from_stripe(price), Decimal(str(quantity)), RuleSet.STRIPE)
    assert sum(row.amount for row in rated.rows) == rated.amount
    return rated.amount


@pytest.mark.parametrize(("quantity", "cents"), [(5, 3500), (6, 3900), (20, 12000), (25, 15000)])
def test_volume_prices_all_units_at_the_tier_reached(quantity: int, cents: int) -> None:
    assert amount(tiered("volume", SIMPLE), quantity) == cents


@pytest.mark.parametrize(
    ("quantity", "cents"), [(1, 700), (5, 3500), (6, 4150), (20, 12750), (25, 15750)]
)
def test_graduated_fills_the_tiers_in_order(quantity: int, cents: int) -> None:
    assert amount(tiered("graduated", SIMPLE), quantity) == cents


def test_volume_adds_the_flat_amount_of_the_tier_reached() -> None:
    assert amount(tiered("volume", FLAT), 12) == 6600


def test_graduated_adds_the_flat_amount_of_every_tier_entered() -> None:
    assert amount(tiered("graduated", FLAT), 12) == 11100


@pytest.mark.parametrize("mode", ["volume", "graduated"])
def test_zero_bills_the_first_flat_amount_in_both_modes(mode: str) -> None:
    assert amount(tiered(mode, FLAT), 0) == 1000
    assert amount(tiered(mode, SIMPLE), 0) == 0


def per_unit(unit: str, **more: Any) -> dict[str, Any]:
    return {
        "currency": "usd",
        "billing_scheme": "per_unit",
        "unit_amount": None,
        "unit_amount_decimal": unit,
        **more,
    }


def test_transform_quantity_divides_then_rounds() -> None:
    up = per_unit("1000", transform_quantity={"divide_by": 60, "round": "up"})
    down = per_unit("1000", transform_quantity={"divide_by": 60, "round": "down"})
    assert amount(up, 150) == 3000
    assert amount(down, 150) == 2000
    assert amount(up, 120) == amount(down, 120) == 2000


def test_the_line_is_rounded_half_up_after_multiplying() -> None:
    assert amount(per_unit("0.05"), 30) == 2
    assert amount(per_unit("0.05"), 29) == 1


def test_twelve_decimals_of_a_cent_are_kept() -> None:
    assert amount(per_unit("0.000000000001"), 10**12) == 1


def test_a_currency_option_replaces_the_amounts() -> None:
    price = per_unit("10", currency_options={"jpy": {"unit_amount_decimal": "33.5"}})
    rated = rate(price_from_stripe(price, currency="jpy"), Decimal(3), RuleSet.STRIPE)
    assert rated.amount == 101  # whole yen, 100.5 rounded half up
    assert price_from_stripe(price, currency="JPY").exponent == 0


def test_a_currency_option_may_have_its_own_tiers() -> None:
    price = tiered("graduated", SIMPLE)
    price["currency_options"] = {"kwd": {"tiers": [{"up_to": "inf", "unit_amount_decimal": "1.5"}]}}
    converted = price_from_stripe(price, currency="KWD")
    assert converted == Price(
        model=converted.model,
        currency="KWD",
        exponent=3,
        tiers=(Tier(None, Decimal("1.5"), Decimal(0)),),
        price_id="price_1",
    )


def test_the_sdks_own_object_is_taken_as_well() -> None:
    price = stripe.Price.construct_from(tiered("graduated", SIMPLE), "sk_test_x")
    assert rate(price_from_stripe(price), Decimal(6), RuleSet.STRIPE).amount == 4150
    with pytest.raises(InvalidField):
        price_from_stripe("price_1")


def test_fractions_between_tiers_are_priced_continuously() -> None:
    assert amount(tiered("graduated", SIMPLE), "5.5") == 3500 + 325
