"""The computed invoice: lines with their breakdown, what was taken off and why, tax and total.

Fields ending in `_minor` are integer minor units. The properties without that ending give the
same values as Decimals in major units, under the names of the predecessor's invoice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from billing.pricing.models import Rated, Row, RuleSet
from billing.pricing.numbers import major


class LineKind(StrEnum):
    """What a line charges for."""

    USAGE = "usage"
    FIXED = "fixed"
    TRUE_UP = "true_up"


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """One charge. `discount_minor` and `credit_minor` are its shares of what was taken off."""

    kind: LineKind
    metric: str
    description: str
    quantity: Decimal
    unit_price: Decimal
    amount_minor: int
    exponent: int
    rated: Rated | None = None
    discount_minor: int = 0
    credit_minor: int = 0
    tax_minor: int = 0

    @property
    def subtotal(self) -> Decimal:
        """The line before discounts and tax, in major units."""
        return major(self.amount_minor, self.exponent)

    @property
    def breakdown(self) -> tuple[Row, ...]:
        """The parts of the line; their amounts sum exactly to it."""
        return self.rated.rows if self.rated is not None else ()

    def __getitem__(self, key: str) -> Any:
        """`line["unitPrice"]` and `line["unit_price"]` both answer."""
        return _lookup(self, key)

    def as_dict(self) -> dict[str, Any]:
        """The wire form: camelCase, numbers as Decimals in major units."""
        return {
            "metric": self.metric,
            "quantity": self.quantity,
            "unitPrice": self.unit_price,
            "subtotal": self.subtotal,
            "description": self.description,
            "kind": self.kind.value,
            "discount": major(self.discount_minor, self.exponent),
            "tax": major(self.tax_minor, self.exponent),
            "breakdown": [_row_dict(row, self.exponent) for row in self.breakdown],
        }


class TakenKind(StrEnum):
    """Why an amount was taken off."""

    COUPON = "coupon"
    COMMITMENT = "commitment"
    CREDIT = "credit"
    BALANCE = "balance"


@dataclass(frozen=True, slots=True)
class Taken:
    """A coupon, commitment or credit at work.

    `counted_minor` is what the invoice shows; `used_minor` what really reduced it (under the
    compat rules a credit counts in full even above the subtotal); `remaining_minor` is left for
    later invoices (None for coupons).
    """

    kind: TakenKind
    name: str
    counted_minor: int
    used_minor: int
    remaining_minor: int | None

    def as_dict(self, exponent: int) -> dict[str, Any]:
        """The wire form, in major units."""
        left = self.remaining_minor
        return {
            "kind": self.kind.value,
            "name": self.name,
            "amount": major(self.counted_minor, exponent),
            "used": major(self.used_minor, exponent),
            "remaining": None if left is None else major(left, exponent),
        }


@dataclass(frozen=True, slots=True)
class Invoice:
    """A computed invoice under one rule set."""

    customer_id: str
    period_start: datetime
    period_end: datetime
    currency: str
    exponent: int
    rules: RuleSet
    lines: tuple[InvoiceLine, ...]
    taken: tuple[Taken, ...]
    subtotal_minor: int
    discount_minor: int
    commitment_minor: int
    credit_minor: int
    taxable_minor: int
    tax_minor: int
    tax_included_minor: int
    total_minor: int
    amount_due_minor: int
    notes: tuple[str, ...] = ()

    @property
    def line_items(self) -> tuple[InvoiceLine, ...]:
        """The lines, under the predecessor's name."""
        return self.lines

    @property
    def subtotal(self) -> Decimal:
        """Sum of the lines."""
        return major(self.subtotal_minor, self.exponent)

    @property
    def discounts(self) -> Decimal:
        """What coupons took off."""
        return major(self.discount_minor, self.exponent)

    @property
    def credits(self) -> Decimal:
        """Commitments and credits together, as the predecessor shows them."""
        return major(self.commitment_minor + self.credit_minor, self.exponent)

    @property
    def adjustments(self) -> Decimal:
        """Always zero; kept because callers read the field."""
        return major(0, self.exponent)

    @property
    def tax(self) -> Decimal:
        """Tax, on top or included."""
        return major(self.tax_minor, self.exponent)

    @property
    def total(self) -> Decimal:
        """What the invoice comes to."""
        return major(self.total_minor, self.exponent)

    @property
    def amount_due(self) -> Decimal:
        """The total after the customer's balance."""
        return major(self.amount_due_minor, self.exponent)

    def __getitem__(self, key: str) -> Any:
        """`invoice["lineItems"]` and `invoice["line_items"]` both answer."""
        return _lookup(self, key)

    def as_dict(self) -> dict[str, Any]:
        """The wire form: camelCase, the predecessor's fields first; Decimals in major units."""
        return {
            "customerId": self.customer_id,
            "periodStart": _iso(self.period_start),
            "periodEnd": _iso(self.period_end),
            "lineItems": [line.as_dict() for line in self.lines],
            "subtotal": self.subtotal,
            "credits": self.credits,
            "adjustments": self.adjustments,
            "tax": self.tax,
            "total": self.total,
            "currency": self.currency,
            "discounts": self.discounts,
            "taxable": major(self.taxable_minor, self.exponent),
            "taxIncluded": major(self.tax_included_minor, self.exponent),
            "amountDue": self.amount_due,
            "applied": [taken.as_dict(self.exponent) for taken in self.taken],
            "rules": self.rules.value,
            "notes": list(self.notes),
        }


def _iso(instant: datetime) -> str:
    text = instant.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _row_dict(row: Row, exponent: int) -> dict[str, Any]:
    return {
        "kind": row.kind.value,
        "tier": row.tier,
        "over": row.over,
        "upTo": row.up_to,
        "units": row.units,
        "unitPrice": major(row.unit_amount, exponent),
        "flatFee": major(row.flat_amount, exponent),
        "exact": major(row.exact, exponent),
        "subtotal": major(row.amount, exponent),
    }


def _lookup(holder: object, key: str) -> Any:
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", key).lower()
    try:
        return getattr(holder, name)
    except AttributeError:
        raise KeyError(key) from None
