"""What cannot be priced is refused with a typed error that names the field."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from billing.pricing import (
    FiniteLastTier,
    InvalidCurrency,
    InvalidField,
    InvalidPeriod,
    InvoiceSimulator,
    MissingField,
    MissingTiers,
    MixedCurrencies,
    NegativeNotAllowed,
    NotANumber,
    OutOfRange,
    PricingError,
    RuleSet,
    UnknownModel,
    UnsortedTiers,
    UnsupportedTerm,
    price_from_config,
    price_from_stripe,
    rate,
    stripe_price_params,
)

FLAT = {"model": "flat", "currency": "USD", "unitPrice": 1}


def tiered(*tiers: dict[str, Any], model: str = "tiered") -> dict[str, Any]:
    return {"model": model, "currency": "USD", "tiers": list(tiers)}


OPEN = {"upTo": None, "unitPrice": 1}
ITEM = "usageItems[0].priceConfig"

REFUSED_BY_BOTH: list[tuple[str, dict[str, Any], type[PricingError], str]] = [
    ("unknown model", {**FLAT, "model": "free"}, UnknownModel, f"{ITEM}.model"),
    ("no model", {"currency": "USD", "unitPrice": 1}, MissingField, f"{ITEM}.model"),
    ("no tiers", {"model": "tiered", "currency": "USD"}, MissingTiers, f"{ITEM}.tiers"),
    ("empty tiers", tiered(), MissingTiers, f"{ITEM}.tiers"),
    (
        "tiers out of order",
        tiered({"upTo": 500, "unitPrice": 1}, {"upTo": 100, "unitPrice": 2}, OPEN),
        UnsortedTiers,
        f"{ITEM}.tiers[1].upTo",
    ),
    (
        "two tiers with one bound",
        tiered({"upTo": 100, "unitPrice": 1}, {"upTo": 100, "unitPrice": 2}, OPEN),
        UnsortedTiers,
        f"{ITEM}.tiers[1].upTo",
    ),
    (
        "an open tier before the last",
        tiered(OPEN, {"upTo": 100, "unitPrice": 2}),
        UnsortedTiers,
        f"{ITEM}.tiers[0].upTo",
    ),
    (
        "a bound of zero",
        tiered({"upTo": 0, "unitPrice": 1}, OPEN),
        UnsortedTiers,
        f"{ITEM}.tiers[0].upTo",
    ),
    (
        "a negative bound",
        tiered({"upTo": -1, "unitPrice": 1}, OPEN),
        NegativeNotAllowed,
        f"{ITEM}.tiers[0].upTo",
    ),
    ("a tier without a price", tiered({"upTo": None}), MissingField, f"{ITEM}.tiers[0].unitPrice"),
    ("no unit price", {"model": "flat", "currency": "USD"}, MissingField, f"{ITEM}.unitPrice"),
    ("negative price", {**FLAT, "unitPrice": -1}, NegativeNotAllowed, f"{ITEM}.unitPrice"),
    ("NaN price", {**FLAT, "unitPrice": float("nan")}, NotANumber, f"{ITEM}.unitPrice"),
    ("infinite price", {**FLAT, "unitPrice": float("inf")}, NotANumber, f"{ITEM}.unitPrice"),
    ("huge price", {**FLAT, "unitPrice": Decimal("1e400")}, OutOfRange, f"{ITEM}.unitPrice"),
    ("tiny price", {**FLAT, "unitPrice": Decimal("1e-400000")}, OutOfRange, f"{ITEM}.unitPrice"),
    ("huge integer", {**FLAT, "unitPrice": 10**5000}, OutOfRange, f"{ITEM}.unitPrice"),
    ("code", {**FLAT, "unitPrice": "__import__('os')"}, NotANumber, f"{ITEM}.unitPrice"),
    ("boolean", {**FLAT, "unitPrice": True}, NotANumber, f"{ITEM}.unitPrice"),
    ("bad currency", {**FLAT, "currency": "<b>"}, InvalidCurrency, f"{ITEM}.currency"),
    ("unknown field", {**FLAT, "unit_prize": 1}, InvalidField, f"{ITEM}.unit_prize"),
    ("both spellings", {**FLAT, "unit_price": 1}, InvalidField, f"{ITEM}.unitPrice"),
    ("tiers on a flat price", {**FLAT, "tiers": [OPEN]}, InvalidField, f"{ITEM}.tiers"),
    ("not an object", [], InvalidField, ITEM),  # type: ignore[list-item]
]


def simulate(
    config: Any, quantity: object = 10, rules: RuleSet = RuleSet.COMPAT, **more: Any
) -> Any:
    return InvoiceSimulator(rules).simulate(
        customerId="c",
        periodStart="2024-01-01",
        periodEnd="2024-02-01",
        usageItems=[{"metric": "m", "quantity": quantity, "priceConfig": config}],
        **more,
    )


@pytest.mark.parametrize("rules", list(RuleSet))
@pytest.mark.parametrize(
    ("config", "error", "path"),
    [row[1:] for row in REFUSED_BY_BOTH],
    ids=[row[0] for row in REFUSED_BY_BOTH],
)
def test_a_bad_price_is_refused_by_name(
    rules: RuleSet, config: Any, error: type[PricingError], path: str
) -> None:
    with pytest.raises(error) as caught:
        simulate(config, rules=rules)
    assert caught.value.path == path


REFUSED_BY_STRIPE: list[tuple[str, dict[str, Any], type[PricingError]]] = [
    ("finite last tier", tiered({"upTo": 10, "unitPrice": 1}), FiniteLastTier),
    ("fractional bound", tiered({"upTo": 1.5, "unitPrice": 1}, OPEN), InvalidField),
    ("flat fee in tiered", tiered({**OPEN, "flatPrice": 1}), UnsupportedTerm),
    (
        "fraction of a cent flat",
        tiered({**OPEN, "flatPrice": 0.001}, model="graduated"),
        InvalidField,
    ),
    ("13 decimals of a cent", {**FLAT, "unitPrice": Decimal("0.000000000000001")}, OutOfRange),
    ("no package size", {**FLAT, "model": "package"}, OutOfRange),
    (
        "fractional package",
        {**FLAT, "model": "package", "packageSize": 0.3},
        InvalidField,
    ),
    ("no currency", {"model": "flat", "unitPrice": 1}, MissingField),
]


@pytest.mark.parametrize(
    ("config", "error"),
    [row[1:] for row in REFUSED_BY_STRIPE],
    ids=[row[0] for row in REFUSED_BY_STRIPE],
)
def test_what_stripe_would_refuse_is_refused_under_its_rules_only(
    config: dict[str, Any], error: type[PricingError]
) -> None:
    with pytest.raises(error) as caught:
        simulate(config, rules=RuleSet.STRIPE)
    assert caught.value.path.startswith(ITEM)
    simulate(config)


def test_negative_usage_is_refused_under_stripes_rules() -> None:
    with pytest.raises(NegativeNotAllowed):
        simulate(FLAT, -1, RuleSet.STRIPE)


@pytest.mark.parametrize("quantity", [float("nan"), "nan", "Infinity", "1_0", " 1", "", None, "x"])
def test_a_quantity_that_is_no_number_is_refused(quantity: object) -> None:
    with pytest.raises((NotANumber, MissingField)) as caught:
        simulate(FLAT, quantity)
    assert caught.value.path == "usageItems[0].quantity"


@pytest.mark.parametrize("rules", list(RuleSet))
def test_two_currencies_on_one_invoice_are_refused(rules: RuleSet) -> None:
    items = [
        {"metric": "a", "quantity": 1, "priceConfig": FLAT},
        {"metric": "b", "quantity": 1, "priceConfig": {**FLAT, "currency": "EUR"}},
    ]
    with pytest.raises(MixedCurrencies) as caught:
        InvoiceSimulator(rules).simulate(
            customerId="c", periodStart="2024-01-01", periodEnd="2024-02-01", usageItems=items
        )
    assert caught.value.path == "usageItems[1].priceConfig.currency"


@pytest.mark.parametrize("end", ["2024-01-01", "2023-12-01"])
def test_an_empty_or_reversed_period_is_refused(end: str) -> None:
    with pytest.raises(InvalidPeriod):
        InvoiceSimulator().simulate(customerId="c", periodStart="2024-01-01", periodEnd=end)


@pytest.mark.parametrize("start", ["2024-13-01", "2024-02-30", "yesterday", 20240101, True])
def test_a_date_that_is_none_is_refused(start: object) -> None:
    with pytest.raises(InvalidField) as caught:
        InvoiceSimulator().simulate(customerId="c", periodStart=start, periodEnd="2024-12-01")
    assert caught.value.path == "periodStart"


@pytest.mark.parametrize(
    "more",
    [
        {"coupons": [{"percentOff": 10}]},
        {"fixedFees": [{"description": "base", "amount": 10}]},
        {"minimumSpend": 10},
        {"taxBehavior": "inclusive"},
        {"credits": [{"amount": 1, "timing": "after_tax"}]},
    ],
    ids=lambda more: next(iter(more)),
)
def test_compat_refuses_terms_its_model_never_had(more: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedTerm):
        simulate(FLAT, **more)


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"commitments": [{"amount": 5, "applied": 6}]}, "commitments[0].applied"),
        ({"commitments": [{"amount": -5}]}, "commitments[0].amount"),
        ({"credits": [{"amount": -1}]}, "credits[0].amount"),
        ({"credits": [{"amount": 1, "priority": 101}]}, "credits[0].priority"),
        ({"coupons": [{"percentOff": 101}]}, "coupons[0].percentOff"),
        ({"coupons": [{"percentOff": 1, "amountOff": 1}]}, "coupons[0].percentOff"),
        ({"coupons": [{}]}, "coupons[0].percentOff"),
        ({"taxRate": -1}, "taxRate"),
        ({"taxRate": 101}, "taxRate"),
        ({"minimumSpend": -1}, "minimumSpend"),
    ],
)
def test_terms_outside_their_range_are_refused(more: dict[str, Any], path: str) -> None:
    with pytest.raises(PricingError) as caught:
        simulate(FLAT, rules=RuleSet.STRIPE, **more)
    assert caught.value.path == path


def test_too_many_tiers_are_refused_unread() -> None:
    many = tiered(*[{"upTo": index + 1, "unitPrice": 1} for index in range(100_000)])
    with pytest.raises(InvalidField, match="at most 1000"):
        simulate(many)


def test_a_stripe_price_without_expanded_tiers_is_refused() -> None:
    price = {"currency": "usd", "billing_scheme": "tiered", "tiers_mode": "volume"}
    with pytest.raises(MissingTiers, match="expand"):
        price_from_stripe(price)


def test_a_stripe_price_without_an_amount_is_refused() -> None:
    price = {"currency": "usd", "billing_scheme": "per_unit", "unit_amount": None}
    with pytest.raises(MissingField):
        price_from_stripe(price)


def test_a_stripe_price_has_only_the_currencies_it_lists() -> None:
    price = {"currency": "usd", "billing_scheme": "per_unit", "unit_amount": 5}
    with pytest.raises(InvalidCurrency):
        price_from_stripe(price, currency="EUR")


def test_a_price_survives_the_way_to_stripe_and_back() -> None:
    config = tiered(
        {"upTo": 10, "unitPrice": "0.0123"},
        {"upTo": None, "unitPrice": 0, "flatPrice": 7},
        model="graduated",
    )
    price = price_from_config(config, rules=RuleSet.STRIPE)
    params = stripe_price_params(price)
    assert params["tiers"][0] == {"up_to": 10, "unit_amount_decimal": "1.23"}
    assert price_from_stripe(params) == price
    assert rate(price, Decimal(11), RuleSet.STRIPE).amount == 712


def test_a_minimum_has_no_place_in_a_stripe_price() -> None:
    price = price_from_config({**FLAT, "minimumCharge": 1}, rules=RuleSet.STRIPE)
    with pytest.raises(InvalidField):
        stripe_price_params(price)
