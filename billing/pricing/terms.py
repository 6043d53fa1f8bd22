"""What an invoice is computed from: metered items and the terms of the contract around them.

Amounts are Decimal minor units. Periods are half-open `[start, end)` instants in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

from billing.pricing.errors import (
    InvalidField,
    InvalidPeriod,
    MixedCurrencies,
    NegativeNotAllowed,
    OutOfRange,
)
from billing.pricing.models import Price, TaxBehavior
from billing.pricing.numbers import ZERO
from billing.pricing.proration import Proration

# Bounds of one invoice; a longer one is refused, not worked on.
ITEMS_MAX: Final = 10_000
TERMS_MAX: Final = 1_000

CREDIT_PRIORITY_DEFAULT: Final = 50


class CreditCategory(StrEnum):
    """Promotional credit is used before paid credit that is otherwise equal."""

    PROMOTIONAL = "promotional"
    PAID = "paid"


class CreditTiming(StrEnum):
    """Billing credit lowers the taxable amount; a customer balance pays the taxed total."""

    BEFORE_TAX = "before_tax"
    AFTER_TAX = "after_tax"


class TaxRounding(StrEnum):
    """Round the tax of the whole invoice once, or of every line."""

    INVOICE = "invoice"
    LINE = "line"


@dataclass(frozen=True, slots=True)
class UsageItem:
    """A quantity of one metric at one price."""

    metric: str
    quantity: Decimal
    price: Price
    taxable: bool = True


@dataclass(frozen=True, slots=True)
class FixedFee:
    """A recurring fee; `start` or `end` inside the period prorate it as `proration` says."""

    description: str
    amount: Decimal
    proration: Proration = Proration.NONE
    start: datetime | None = None
    end: datetime | None = None
    taxable: bool = True

    def __post_init__(self) -> None:
        """A fee is not a credit."""
        _refuse_negative(self.amount, "amount")


@dataclass(frozen=True, slots=True)
class Commitment:
    """A prepaid amount that invoices draw down; `applied` is already used. Not a minimum spend."""

    amount: Decimal
    applied: Decimal = ZERO
    start: datetime | None = None
    end: datetime | None = None
    metrics: frozenset[str] | None = None

    def __post_init__(self) -> None:
        """More applied than committed would turn the credit into a charge."""
        _refuse_negative(self.amount, "amount")
        _refuse_negative(self.applied, "applied")
        if self.applied > self.amount:
            raise OutOfRange("must not exceed the committed amount", path="applied")


@dataclass(frozen=True, slots=True)
class MinimumSpend:
    """The least an invoice's charges come to before discounts; the shortfall is billed."""

    amount: Decimal

    def __post_init__(self) -> None:
        """A minimum below zero has no meaning."""
        _refuse_negative(self.amount, "amount")


@dataclass(frozen=True, slots=True)
class Credit:
    """An amount that reduces invoices until it is used up or expires."""

    amount: Decimal
    reason: str = ""
    effective_at: datetime | None = None
    expires_at: datetime | None = None
    priority: int = CREDIT_PRIORITY_DEFAULT
    category: CreditCategory = CreditCategory.PAID
    timing: CreditTiming = CreditTiming.BEFORE_TAX
    metrics: frozenset[str] | None = None

    def __post_init__(self) -> None:
        """A credit below zero would be a charge."""
        _refuse_negative(self.amount, "amount")


@dataclass(frozen=True, slots=True)
class Coupon:
    """Either a percentage or an amount off."""

    percent_off: Decimal | None = None
    amount_off: Decimal | None = None
    name: str = ""
    metrics: frozenset[str] | None = None

    def __post_init__(self) -> None:
        """Exactly one kind; a percentage lies in (0, 100]."""
        if (self.percent_off is None) == (self.amount_off is None):
            raise InvalidField("needs either percentOff or amountOff", path="percentOff")
        if self.percent_off is not None and not 0 < self.percent_off <= 100:
            raise OutOfRange("must be above 0 and at most 100", path="percentOff")
        if self.amount_off is not None:
            _refuse_negative(self.amount_off, "amountOff")


@dataclass(frozen=True, slots=True)
class InvoiceInput:
    """Everything one invoice is computed from. `tax_rate` is in percent: 8.5 means 8.5 %."""

    customer_id: str
    period_start: datetime
    period_end: datetime
    currency: str
    exponent: int
    items: tuple[UsageItem, ...] = ()
    fixed_fees: tuple[FixedFee, ...] = ()
    minimum_spend: MinimumSpend | None = None
    commitments: tuple[Commitment, ...] = ()
    credits: tuple[Credit, ...] = ()
    coupons: tuple[Coupon, ...] = ()
    tax_rate: Decimal = ZERO
    tax_behavior: TaxBehavior = TaxBehavior.EXCLUSIVE
    tax_rounding: TaxRounding = TaxRounding.LINE

    def __post_init__(self) -> None:
        """One currency, one exponent, a period that runs forwards, a tax rate that is a rate."""
        if self.period_end <= self.period_start:
            raise InvalidPeriod("must be after periodStart", path="periodEnd")
        if not 0 <= self.tax_rate <= 100:
            raise OutOfRange("must be between 0 and 100 percent", path="taxRate")
        for index, item in enumerate(self.items):
            if (item.price.currency, item.price.exponent) != (self.currency, self.exponent):
                raise MixedCurrencies(
                    f"{item.price.currency} on an invoice in {self.currency}",
                    path=f"usageItems[{index}].priceConfig.currency",
                )


def _refuse_negative(amount: Decimal, path: str) -> None:
    if amount < 0:
        raise NegativeNotAllowed("must not be negative", path=path)
