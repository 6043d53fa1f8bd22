"""Scenario documents are read strictly and every issue names its place."""

from __future__ import annotations

from copy import deepcopy
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.simulation.scenarios import (
    InvalidScenario,
    read_scenario,
    run_scenario,
    validate_scenario,
)
from tests.simulation.documents import FLAT, inputs, item, scenario


def paths(document: object, **more: Any) -> list[str]:
    return [issue.path for issue in validate_scenario(document, **more)]


def with_tiers(*tiers: dict[str, Any]) -> dict[str, Any]:
    config = {"model": "tiered", "currency": "USD", "tiers": list(tiers)}
    items = [{"metric": "m", "quantity": 1, "priceConfig": config}]
    return scenario(inputs=inputs(usageItems=items))


def test_a_good_scenario_has_no_issues_and_runs() -> None:
    assert validate_scenario(scenario()) == []
    outcome = run_scenario(read_scenario(scenario()))
    assert outcome.passed is True
    assert outcome.invoice.total == 10


def test_every_issue_is_listed_not_only_the_first() -> None:
    document = scenario(
        metadata={},
        inputs=inputs(
            customerId="",
            periodEnd="2024-01-01",
            usageItems=[item(-1), item(1, model="free"), item("x")],
            taxRate=-1,
        ),
        expected={"subtotal": 1},
        tolerances={"relative": 2},
    )
    assert set(paths(document)) >= {
        "metadata.name",
        "inputs.customerId",
        "inputs.usageItems[0].quantity",
        "inputs.usageItems[1].priceConfig.model",
        "inputs.usageItems[2].quantity",
        "inputs.taxRate",
        "expected.total",
        "tolerances.relative",
    }


ITEM = "inputs.usageItems[0]"


def with_item(*arguments: Any, **config: Any) -> dict[str, Any]:
    return scenario(inputs=inputs(usageItems=[item(*arguments, **config)]))


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in inputs().items() if key != name}


PRICELESS = [{"metric": "m", "quantity": 1}]

REFUSED: list[tuple[str, Any, str]] = [
    ("a list", [], ""),
    ("an unknown field", scenario(expectd={}), "expectd"),
    ("no inputs", {"metadata": {"name": "x"}, "expected": {"total": 1}}, "inputs"),
    ("no usage items", scenario(inputs=without("usageItems")), "inputs.usageItems"),
    ("no price", scenario(inputs=inputs(usageItems=PRICELESS)), f"{ITEM}.priceConfig"),
    ("no currency", with_item(currency=None), f"{ITEM}.priceConfig.currency"),
    ("a reversed period", scenario(inputs=inputs(periodEnd="2024-12-01")), "inputs.periodEnd"),
    ("an empty period", scenario(inputs=inputs(periodEnd="2025-01-01")), "inputs.periodEnd"),
    ("February 30", scenario(inputs=inputs(periodStart="2025-02-30")), "inputs.periodStart"),
    (
        "a package of zero",
        with_item(model="package", packageSize=0),
        f"{ITEM}.priceConfig.packageSize",
    ),
    (
        "a package of a half",
        with_item(model="package", packageSize=0.5),
        f"{ITEM}.priceConfig.packageSize",
    ),
    ("a name too long", scenario(metadata={"name": "n" * 256}), "metadata.name"),
    ("an unknown rule set", scenario(rules="chargebee"), "rules"),
    ("an unresolvable model", scenario(model={"reference": "x"}), "model.reference"),
    ("an unknown tolerance", scenario(tolerances={"percent": 1}), "tolerances.percent"),
    ("an unknown expectation", scenario(expected={"total": 1, "sum": 1}), "expected.sum"),
    ("NaN", with_item(float("nan")), f"{ITEM}.quantity"),
    ("a term of the other rules", scenario(inputs=inputs(minimumSpend=5)), "inputs.minimumSpend"),
    (
        "a price that Stripe refuses",
        scenario(rules="stripe", inputs=inputs(usageItems=[item(unitPrice="0.00000000000000001")])),
        f"{ITEM}.priceConfig.unitPrice",
    ),
    ("too many items", scenario(inputs=inputs(usageItems=[item()] * 10_001)), "inputs.usageItems"),
]


@pytest.mark.parametrize(
    ("document", "path"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_a_bad_document_is_refused_with_the_place(document: Any, path: str) -> None:
    assert path in paths(document)
    with pytest.raises(InvalidScenario):
        read_scenario(document)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text(max_size=20)
    | st.sampled_from(["tiered", "USD", "2025-01-01", "inf", "compat", "up"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["model", "currency", "tiers", "upTo", "unitPrice", "amount", "total", "metric"]
            )
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every value of a document stands."""
    found = [path]
    if isinstance(value, dict | list):
        for key, member in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(member, (*path, key))
    return found


GRADUATED = item(
    1, model="graduated", unitPrice=None, tiers=[{"upTo": 5, "unitPrice": 1}, {"flatPrice": 1}]
)
FULL = scenario(
    model=FLAT,
    tolerances={"absolute": 1, "relative": 0.5},
    rules="stripe",
    inputs=inputs(
        usageItems=[GRADUATED],
        commitments=[{"amount": 1, "applied": 0, "startDate": "2025-01-01"}],
        credits=[{"amount": 1, "expiresAt": "2026-01-01", "priority": 1, "metrics": ["m"]}],
        coupons=[{"percentOff": 5, "name": "x"}],
        fixedFees=[{"description": "f", "amount": 1, "proration": "day"}],
        minimumSpend=1,
        taxRate=5,
    ),
)


@given(st.sampled_from(places(FULL)[1:]), JSON)
def test_no_value_anywhere_breaks_the_reader(place: tuple[Any, ...], value: Any) -> None:
    """Whatever stands where: the answer is a scenario that runs, or a list of issues."""
    document = deepcopy(FULL)
    holder = document
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    if not validate_scenario(document):
        run_scenario(read_scenario(document))


def test_the_document_the_reader_is_tried_on_is_a_scenario_itself() -> None:
    assert validate_scenario(FULL) == []


def test_a_finite_last_tier_is_refused_unless_the_predecessors_rules_are_asked_for() -> None:
    document = with_tiers({"upTo": 10, "unitPrice": 1})
    assert paths(document) == ["inputs.usageItems[0].priceConfig.tiers[0].upTo"]
    assert paths({**document, "rules": "compat"}) == []
    assert paths({**document, "rules": "stripe"}) == [
        "inputs.usageItems[0].priceConfig.tiers[0].upTo"
    ]


def test_the_model_serves_items_without_a_price() -> None:
    document = scenario(
        model=FLAT, inputs=inputs(usageItems=[{"metric": "api_calls", "quantity": 1000}])
    )
    assert run_scenario(read_scenario(document)).invoice.total == 10


def test_the_form_of_the_simulations_api_is_read_too() -> None:
    body = {"name": "t", "description": "d", "version": "2", "tags": ["a"], "inputs": inputs()}
    found = read_scenario(body, expected_required=False)
    assert (found.name, found.description, found.version) == ("t", "d", "2")
    assert run_scenario(found).passed is None


def test_snake_case_documents_are_scenarios_too() -> None:
    document = {
        "metadata": {"name": "x"},
        "inputs": {
            "customer_id": "c",
            "period_start": "2025-01-01",
            "period_end": "2025-02-01",
            "usage_items": [
                {
                    "metric": "m",
                    "quantity": 3,
                    "price_config": {"model": "flat", "currency": "USD", "unit_price": 2},
                }
            ],
        },
        "expected": {"total": 6, "line_items": [{"metric": "m", "unit_price": 2}]},
    }
    assert run_scenario(read_scenario(document)).passed is True


def test_stripes_rules_can_be_chosen() -> None:
    config = {"model": "flat", "currency": "JPY", "unitPrice": 33.5}
    given = inputs(usageItems=[{"metric": "m", "quantity": 3, "priceConfig": config}])
    for rules, total in (("compat", Decimal("100.5")), ("stripe", Decimal(101))):
        outcome = run_scenario(read_scenario(scenario(rules=rules, inputs=given)))
        assert outcome.invoice.total == total
