"""Every published case of the predecessor, in camelCase and in snake_case, to the cent."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from billing.pricing.reading import snake
from stripemeter.pricing import InvoiceSimulator
from tests.pricing.cases import CASES, Case


def document(case: Case) -> dict[str, Any]:
    items = [
        {"metric": f"metric_{index}", "quantity": quantity, "priceConfig": config}
        for index, (config, quantity) in enumerate(case.items)
    ]
    return {
        "customerId": "cus_1",
        "periodStart": "2024-01-01",
        "periodEnd": "2024-01-31",
        "usageItems": items,
        **case.more,
    }


def snake_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {snake(key): snake_keys(item) for key, item in value.items()}
    return [snake_keys(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.number)
def test_published_case_gives_the_predecessors_numbers(case: Case) -> None:
    invoice = InvoiceSimulator().simulate(document(case))

    assert invoice.total == Decimal(case.total)
    for name in ("subtotal", "credits", "tax"):
        expected = getattr(case, name)
        if expected is not None:
            assert invoice[name] == Decimal(expected), name
    if case.lines is not None:
        assert [line.subtotal for line in invoice.lines] == [Decimal(x) for x in case.lines]
    if case.rows is not None:
        rows = invoice.as_dict()["lineItems"][0]["breakdown"]
        assert [(row["units"], row["subtotal"]) for row in rows] == [
            (Decimal(units), Decimal(subtotal)) for units, subtotal in case.rows
        ]
    if case.shown_unit is not None:
        assert invoice.lines[0].unit_price == Decimal(case.shown_unit)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.number)
def test_snake_case_and_keywords_give_the_same_invoice(case: Case) -> None:
    wire = document(case)
    assert InvoiceSimulator().simulate(**snake_keys(wire)) == InvoiceSimulator().simulate(wire)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.number)
def test_every_breakdown_sums_to_its_line(case: Case) -> None:
    for line in InvoiceSimulator().simulate(document(case)).lines:
        assert line.rated is not None
        assert sum(row.amount for row in line.breakdown) == line.amount_minor
        assert sum(row.exact for row in line.breakdown) == line.rated.exact


def test_case_57_prorates_by_instants() -> None:
    simulator = InvoiceSimulator()
    arguments = (100, "2024-01-10", "2024-01-20", "2024-01-01", "2024-01-31")
    assert simulator.calculate_proration(*arguments) == Decimal("33.33")
    assert simulator.calculateProration(*arguments) == Decimal("33.33")


def test_a_share_longer_than_the_period_is_capped_at_the_whole() -> None:
    share = InvoiceSimulator().calculate_proration(
        100, "2023-12-01", "2024-03-01", "2024-01-01", "2024-01-31"
    )
    assert share == Decimal("100.00")


def test_a_share_outside_the_period_is_nothing() -> None:
    share = InvoiceSimulator().calculate_proration(
        100, "2024-02-01", "2024-03-01", "2024-01-01", "2024-01-31"
    )
    assert share == 0


def test_the_readme_example_costs_220() -> None:
    invoice = InvoiceSimulator().simulate(
        customer_id="cus_1",
        period_start="2025-01-01",
        period_end="2025-02-01",
        usage_items=[
            {
                "metric": "api_calls",
                "quantity": 25000,
                "price_config": {
                    "model": "tiered",
                    "currency": "USD",
                    "tiers": [
                        {"up_to": 10000, "unit_price": "0.01"},
                        {"up_to": 50000, "unit_price": "0.008"},
                        {"up_to": None, "unit_price": "0.005"},
                    ],
                },
            }
        ],
    )
    assert str(invoice.total) == "220.00"
    assert invoice["lineItems"][0]["unitPrice"] == Decimal("0.01")
    assert invoice.as_dict()["lineItems"][0]["description"] == "25000 units of api_calls"


# -- rules the cases only touch ----------------------------------------------------------------


def simulate(config: dict[str, Any], quantity: object, **more: Any) -> Any:
    case = Case("x", [(config, quantity)], "0", more)
    return InvoiceSimulator().simulate(document(case))


def test_finite_last_tier_bills_the_rest_at_nothing_and_says_so() -> None:
    config = {"model": "tiered", "currency": "USD", "tiers": [{"upTo": 100, "unitPrice": 1}]}
    invoice = simulate(config, 200)
    assert invoice.total == 100
    assert invoice.notes == ("metric_0: 100 units above the last tier are free",)


def test_volume_above_a_finite_last_tier_uses_the_last_price() -> None:
    config = {"model": "volume", "currency": "USD", "tiers": [{"upTo": 100, "unitPrice": 2}]}
    assert simulate(config, 200).total == 400


@pytest.mark.parametrize("end", [None, "inf", float("inf")])
def test_an_open_tier_may_be_written_in_three_ways(end: object) -> None:
    config = {"model": "tiered", "currency": "USD", "tiers": [{"upTo": end, "unitPrice": 1}]}
    assert simulate(config, 5).total == 5


def test_flat_prices_count_only_in_graduated() -> None:
    for model, total in (("tiered", 10), ("volume", 10), ("graduated", 17)):
        tier = {"upTo": None, "unitPrice": 1, "flatPrice": 7}
        assert simulate({"model": model, "currency": "USD", "tiers": [tier]}, 10).total == total


def test_a_minimum_is_charged_on_zero_usage_and_the_maximum_wins() -> None:
    config = {"model": "flat", "currency": "USD", "unitPrice": 1}
    assert simulate({**config, "minimumCharge": 5}, 0).total == 5
    assert simulate({**config, "minimumCharge": 5, "maximumCharge": 3}, 4).total == 3
    assert simulate({**config, "minimumCharge": 0, "maximumCharge": 0}, 4).total == 4


def test_an_expired_credit_does_not_count_and_one_ending_with_the_period_does() -> None:
    config = {"model": "flat", "currency": "USD", "unitPrice": 1}
    early = {"amount": 3, "reason": "x", "expiresAt": "2024-01-30"}
    exact = {"amount": 2, "reason": "y", "expiresAt": "2024-01-31"}
    assert simulate(config, 10, credits=[early, exact]).credits == 2


def test_a_commitment_of_another_period_does_not_count() -> None:
    config = {"model": "flat", "currency": "USD", "unitPrice": 1}
    past = {"amount": 5, "applied": 0, "startDate": "2023-01-01", "endDate": "2023-12-31"}
    assert simulate(config, 10, commitments=[past]).total == 10


def test_a_second_commitment_gives_only_what_the_first_left_open() -> None:
    config = {"model": "flat", "currency": "USD", "unitPrice": 1}
    invoice = simulate(config, 10, commitments=[{"amount": 8}, {"amount": 8, "applied": 1}])
    assert (invoice.credits, invoice.total) == (10, 0)
    assert [taken.remaining_minor for taken in invoice.taken] == [0, 500]


def test_unused_credit_is_reported_although_it_counts_in_full() -> None:
    config = {"model": "flat", "currency": "USD", "unitPrice": 1}
    invoice = simulate(config, 10, credits=[{"amount": 100, "reason": "big"}])
    assert (invoice.credits, invoice.total) == (100, 0)
    (taken,) = invoice.taken
    assert (taken.used_minor, taken.remaining_minor) == (1000, 9000)


def test_compat_keeps_two_places_for_yen_and_says_so() -> None:
    config = {"model": "flat", "currency": "JPY", "unitPrice": 33.5}
    invoice = simulate(config, 3)
    assert invoice.total == Decimal("100.50")
    assert "JPY" in invoice.notes[0]


def test_packages_are_counted_in_decimal() -> None:
    config = {"model": "package", "currency": "USD", "packageSize": 0.3, "unitPrice": 1}
    assert simulate(config, 2.1).total == 7


def test_package_size_zero_means_one() -> None:
    config = {"model": "package", "currency": "USD", "packageSize": 0, "unitPrice": 2}
    assert simulate(config, 3).total == 6


def test_no_items_give_an_empty_invoice_in_dollars() -> None:
    invoice = InvoiceSimulator().simulate(
        customerId="c", periodStart="2024-01-01", periodEnd="2024-02-01", usageItems=[]
    )
    assert (invoice.total, invoice.currency, invoice.lines) == (0, "USD", ())
