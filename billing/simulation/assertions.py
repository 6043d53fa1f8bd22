"""Comparing an invoice with what a scenario expects.

Tolerances: two numbers agree when |a-b| <= absolute or |a-b| / max(1,|b|) <= relative. Without
tolerances in the scenario the absolute one is 0.001 and the relative one is 0. The predecessor
defaulted to 0.05 % relative, by which 5.00 went unnoticed on an invoice of 10,000.00; whoever
wants that writes it into the scenario.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from billing.pricing.errors import InvalidField, OutOfRange
from billing.pricing.numbers import divide, plain, subtract, to_decimal
from billing.pricing.reading import Fields

ABSOLUTE_DEFAULT: Final = Decimal("0.001")
RELATIVE_DEFAULT: Final = Decimal(0)
LINES_MAX: Final = 10_000

_AMOUNTS: Final = ("total", "subtotal", "tax", "credits", "discounts")
# The rest of an invoice's wire form: allowed, so that a result can be kept as an expectation,
# and not compared.
_INVOICE_REST: Final = frozenset(
    {
        "adjustments",
        "amount_due",
        "applied",
        "customer_id",
        "period_end",
        "period_start",
        "rules",
        "scenario",
        "seed",
        "tax_included",
        "taxable",
    }
)
_LINE_REST: Final = frozenset({"breakdown", "discount", "kind", "tax"})
EXPECTED_FIELDS: Final = _INVOICE_REST | {*_AMOUNTS, "currency", "line_items"}
LINE_FIELDS: Final = _LINE_REST | {"metric", "quantity", "unit_price", "subtotal"}
TOLERANCE_FIELDS: Final = frozenset({"absolute", "relative"})


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far two amounts may lie apart, in major units and as a share."""

    absolute: Decimal = ABSOLUTE_DEFAULT
    relative: Decimal = RELATIVE_DEFAULT


@dataclass(frozen=True, slots=True)
class ExpectedLine:
    """What a scenario says about one line; None where it says nothing."""

    metric: str
    quantity: Decimal | None = None
    unit_price: Decimal | None = None
    subtotal: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """What a scenario says about the invoice. `amounts` holds the named totals it gives."""

    amounts: Mapping[str, Decimal]
    currency: str | None = None
    line_items: tuple[ExpectedLine, ...] | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that is not as expected; `difference` is actual minus expected for numbers."""

    field: str
    expected: Any
    actual: Any
    difference: Decimal | None = None

    def text(self) -> str:
        """`total: expected 10, got 11`; objects are written as JSON."""
        return f"{self.field}: expected {_show(self.expected)}, got {_show(self.actual)}"

    def as_dict(self) -> dict[str, Any]:
        """The wire form."""
        shown = {"field": self.field, "expected": self.expected, "actual": self.actual}
        return shown if self.difference is None else {**shown, "difference": self.difference}


@dataclass(frozen=True, slots=True)
class Comparison:
    """The differences, and the fields that were compared at all."""

    differences: tuple[Difference, ...]
    compared: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    def as_dict(self) -> dict[str, Any]:
        """The wire form."""
        return {
            "passed": self.passed,
            "differences": [item.as_dict() for item in self.differences],
            "compared": list(self.compared),
        }


def approx_equal(
    left: Decimal,
    right: Decimal,
    absolute: Decimal = ABSOLUTE_DEFAULT,
    relative: Decimal = RELATIVE_DEFAULT,
) -> bool:
    """Whether two amounts agree within either tolerance; `right` is the scale of the relative."""
    apart = abs(subtract(left, right))
    if apart <= absolute:
        return True
    return bool(relative) and divide(apart, max(Decimal(1), abs(right))) <= relative


def read_expected(value: object, path: str = "expected") -> Expected:
    """Expectations of a document; `total` is required, unknown fields are refused."""
    fields = Fields(value, path, EXPECTED_FIELDS)
    fields.require("total")
    amounts = {name: fields.number(name) for name in _AMOUNTS}
    lines = None
    if fields.has("line_items"):
        members = fields.items("line_items", at_most=LINES_MAX)
        lines = tuple(_read_line(item, item_path) for item_path, item in members)
    return Expected(
        amounts={name: amount for name, amount in amounts.items() if amount is not None},
        currency=fields.text("currency") if fields.has("currency") else None,
        line_items=lines,
    )


def _read_line(value: object, path: str) -> ExpectedLine:
    fields = Fields(value, path, LINE_FIELDS)
    return ExpectedLine(
        # Fees and true-ups have no metric; they go by their description.
        metric=fields.text("metric", "") or fields.text("description"),
        quantity=fields.number("quantity"),
        unit_price=fields.number("unit_price"),
        subtotal=fields.number("subtotal"),
    )


def read_tolerances(value: object, path: str = "tolerances") -> Tolerances:
    """Tolerances of a document; a missing one keeps its default."""
    if value is None:
        return Tolerances()
    fields = Fields(value, path, TOLERANCE_FIELDS)
    absolute, relative = fields.amount("absolute"), fields.amount("relative")
    if relative is not None and relative > 1:
        raise OutOfRange("must be between 0 and 1", path=fields.path_of("relative"))
    return Tolerances(
        ABSOLUTE_DEFAULT if absolute is None else absolute,
        RELATIVE_DEFAULT if relative is None else relative,
    )


def compare(
    expected: Expected, result: Mapping[str, Any], tolerances: Tolerances = Tolerances()
) -> Comparison:
    """Compare an invoice's wire form (as computed, or as read from a result file)."""
    found: list[Difference] = []
    compared: list[str] = []
    for name, amount in expected.amounts.items():
        compared.append(name)
        found += _amount_difference(name, amount, result.get(name), tolerances)
    if expected.currency is not None:
        compared.append("currency")
        if result.get("currency") != expected.currency:
            found.append(Difference("currency", expected.currency, result.get("currency")))
    if expected.line_items is not None:
        compared.append("lineItems")
        found += _line_differences(expected.line_items, result, tolerances)
    return Comparison(tuple(found), tuple(compared))


def _amount_difference(
    field: str, expected: Decimal, actual: object, tolerances: Tolerances
) -> list[Difference]:
    if actual is None:
        return [Difference(field, expected, None)]
    number = to_decimal(actual, field)
    if approx_equal(number, expected, tolerances.absolute, tolerances.relative):
        return []
    return [Difference(field, expected, number, subtract(number, expected))]


def _line_differences(
    expected: tuple[ExpectedLine, ...], result: Mapping[str, Any], tolerances: Tolerances
) -> list[Difference]:
    """Lines are matched by metric, the nth expected with the nth computed one of that metric.

    A computed line that no expectation names is a difference too, so that a list of expected
    lines is always the whole list.
    """
    lines = result.get("lineItems") or []
    if not isinstance(lines, list):
        raise InvalidField("must be a list", path="lineItems")
    waiting: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        waiting.setdefault(str(line.get("metric") or line.get("description")), []).append(line)
    found: list[Difference] = []
    for wanted in expected:
        queue = waiting.get(wanted.metric)
        if not queue:
            found.append(Difference(f"lineItem.{wanted.metric}", _line_dict(wanted), None))
        else:
            found += _one_line(wanted, queue.pop(0), tolerances)
    for metric, rest in waiting.items():
        for line in rest:
            shown = {name: line.get(name) for name in ("metric", "quantity", "subtotal")}
            found.append(Difference(f"lineItem.{metric}", None, shown))
    return found


def _one_line(
    wanted: ExpectedLine, line: Mapping[str, Any], tolerances: Tolerances
) -> list[Difference]:
    prefix = f"lineItem.{wanted.metric}"
    found = []
    if wanted.quantity is not None:
        exact = Tolerances(Decimal(0), Decimal(0))
        found += _amount_difference(
            f"{prefix}.quantity", wanted.quantity, line.get("quantity"), exact
        )
    for name, amount in (("unitPrice", wanted.unit_price), ("subtotal", wanted.subtotal)):
        if amount is not None:
            found += _amount_difference(f"{prefix}.{name}", amount, line.get(name), tolerances)
    return found


def _line_dict(line: ExpectedLine) -> dict[str, Any]:
    shown = {
        "metric": line.metric,
        "quantity": line.quantity,
        "unitPrice": line.unit_price,
        "subtotal": line.subtotal,
    }
    return {name: value for name, value in shown.items() if value is not None}


def _show(value: Any) -> str:
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, dict):
        listed = {
            name: plain(item) if isinstance(item, Decimal) else item for name, item in value.items()
        }
        return json.dumps(listed, ensure_ascii=False)
    return "nothing" if value is None else str(value)
