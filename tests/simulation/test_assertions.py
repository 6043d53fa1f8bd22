"""Tolerances and what a comparison looks at."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from billing.simulation.assertions import (
    Difference,
    Tolerances,
    approx_equal,
    compare,
    read_expected,
)

RESULT: dict[str, Any] = {
    "total": Decimal("11.00"),
    "subtotal": Decimal("12.00"),
    "tax": Decimal(0),
    "credits": Decimal(1),
    "currency": "USD",
    "lineItems": [
        {
            "metric": "a",
            "quantity": Decimal(5),
            "unitPrice": Decimal("0.40"),
            "subtotal": Decimal(2),
        },
        {"metric": "b", "quantity": Decimal(10), "unitPrice": Decimal(1), "subtotal": Decimal(10)},
    ],
}


def number(text: str) -> Decimal:
    return Decimal(text)


def test_a_hundred_and_one_is_within_two_percent() -> None:
    assert approx_equal(number("101"), number("100"), relative=number("0.02"))


def test_one_point_one_is_outside_five_percent_both_ways() -> None:
    five = number("0.05")
    assert not approx_equal(number("1.1"), number("1"), five, five)


def test_a_tenth_of_a_thousandth_is_within_the_absolute_default() -> None:
    assert approx_equal(number("100.0004"), number("100.0005"), absolute=number("0.001"))
    assert approx_equal(number("100.0004"), number("100.0005"))


def test_five_on_ten_thousand_differ_by_default() -> None:
    assert not approx_equal(number("10005"), number("10000"))
    assert approx_equal(number("10005"), number("10000"), relative=number("0.0005"))


def fields(expected: dict[str, Any], tolerances: Tolerances | None = None) -> list[str]:
    found = compare(read_expected(expected), RESULT, tolerances or Tolerances())
    return [item.field for item in found.differences]


def test_everything_given_is_compared() -> None:
    assert fields({"total": 11, "subtotal": 12, "tax": 0, "credits": 1, "currency": "USD"}) == []
    assert fields({"total": 10, "subtotal": 1, "tax": 1, "credits": 2, "currency": "EUR"}) == [
        "total",
        "subtotal",
        "tax",
        "credits",
        "currency",
    ]


def test_lines_are_matched_by_metric_and_name_their_field() -> None:
    lines = [
        {"metric": "b", "quantity": 10, "subtotal": 10},
        {"metric": "a", "quantity": 6, "unitPrice": 0.5, "subtotal": 2},
    ]
    assert fields({"total": 11, "lineItems": lines}) == [
        "lineItem.a.quantity",
        "lineItem.a.unitPrice",
    ]


def test_quantities_are_exact_whatever_the_tolerance() -> None:
    lines = [{"metric": "a", "quantity": 5.0005}, {"metric": "b"}]
    wide = Tolerances(Decimal(1), Decimal(1))
    assert fields({"total": 11, "lineItems": lines}, wide) == ["lineItem.a.quantity"]


def test_a_missing_and_an_extra_line_are_differences() -> None:
    lines = [{"metric": "a"}, {"metric": "c", "subtotal": 3}]
    assert fields({"total": 11, "lineItems": lines}) == ["lineItem.c", "lineItem.b"]


def test_two_lines_of_one_metric_are_matched_in_order() -> None:
    twice = {
        "total": 1,
        "lineItems": [{"metric": "a", "subtotal": 1}, {"metric": "a", "subtotal": 2}],
    }
    found = compare(read_expected({"total": 1, "lineItems": twice["lineItems"]}), twice)
    assert found.passed


def test_differences_read_well() -> None:
    assert (
        Difference("total", Decimal("10"), Decimal("11.0")).text() == "total: expected 10, got 11"
    )
    shown = Difference("lineItem.c", {"metric": "c", "subtotal": Decimal(3)}, None).text()
    assert shown == 'lineItem.c: expected {"metric": "c", "subtotal": "3"}, got nothing'


def test_a_result_without_the_field_is_a_difference() -> None:
    found = compare(read_expected({"total": 1}), {})
    assert [item.text() for item in found.differences] == ["total: expected 1, got nothing"]
