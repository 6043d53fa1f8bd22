"""Where a customer stands on the price list, number by number."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from billing.pricing import Price, Rater, RuleSet, next_unit, price_from_config

TIERS = [
    {"upTo": 10, "unitPrice": 0.05, "flatPrice": 1},
    {"upTo": 100, "unitPrice": 0.04, "flatPrice": 2},
    {"upTo": None, "unitPrice": 0.03},
]


def price(model: str, **more: Any) -> Price:
    config = {"model": model, "currency": "USD", **more}
    return price_from_config(config, rules=RuleSet.STRIPE)


@pytest.mark.parametrize(
    ("quantity", "tier", "to_next", "marginal"),
    [
        (0, 1, 10, 5),  # the first flat amount is due already
        ("9.5", 1, "0.5", "204.5"),  # half a unit each way, and the next flat amount
        (10, 2, 90, 204),
        (11, 2, 89, 4),
        (100, 3, None, 3),
        (5000, 3, None, 3),
    ],
)
def test_position_on_graduated_tiers(
    quantity: object, tier: int, to_next: object, marginal: object
) -> None:
    found = next_unit(price("graduated", tiers=TIERS), Decimal(str(quantity)), RuleSet.STRIPE)
    assert (found.tier, found.tier_count) == (tier, 3)
    assert found.to_next_tier == (None if to_next is None else Decimal(str(to_next)))
    assert found.marginal == Decimal(str(marginal))


def test_crossing_a_volume_border_can_make_the_next_unit_cost_less_than_nothing() -> None:
    tiers = [{"upTo": 10, "unitPrice": 1}, {"upTo": None, "unitPrice": 0.5}]
    rater = Rater(price("volume", tiers=tiers), RuleSet.STRIPE)
    assert rater.next_unit(Decimal(10)).marginal == -450
    (cliff,) = rater.cliffs()
    assert (cliff.tier, cliff.at, cliff.before, cliff.after, cliff.jump) == (2, 10, 1000, 550, -500)


def test_a_price_without_tiers_has_no_position() -> None:
    found = next_unit(price("flat", unitPrice=0.25), Decimal(3), RuleSet.STRIPE)
    assert (found.tier, found.tier_count, found.to_next_tier) == (None, 0, None)
    assert (found.marginal, found.unit_amount) == (25, 25)
    assert Rater(price("flat", unitPrice=0.25), RuleSet.STRIPE).cliffs() == ()


def test_a_package_costs_only_where_a_new_one_begins() -> None:
    rater = Rater(price("package", packageSize=100, unitPrice=5), RuleSet.STRIPE)
    assert rater.next_unit(Decimal(100)).marginal == 500
    assert rater.next_unit(Decimal(101)).marginal == 0


def test_beyond_the_maximum_units_are_free_and_below_the_minimum_too() -> None:
    rater = Rater(price("flat", unitPrice=1, minimumCharge=5, maximumCharge=10), RuleSet.STRIPE)
    low, middle, high = (rater.next_unit(Decimal(quantity)) for quantity in (2, 7, 10))
    assert (low.marginal, low.below_minimum, low.at_maximum) == (0, True, False)
    assert (middle.marginal, middle.below_minimum, middle.at_maximum) == (100, False, False)
    assert (high.marginal, high.below_minimum, high.at_maximum) == (0, False, True)


def test_smooth_tiers_have_no_cliffs() -> None:
    tiers = [{"upTo": 10, "unitPrice": 1}, {"upTo": None, "unitPrice": 0.5}]
    assert Rater(price("graduated", tiers=tiers), RuleSet.STRIPE).cliffs() == ()
    assert len(Rater(price("graduated", tiers=TIERS), RuleSet.STRIPE).cliffs()) == 1
