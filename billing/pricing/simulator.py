"""`InvoiceSimulator`: the predecessor's entry point, in Python, over both rule sets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from billing.pricing.compat import COMPAT_EXPONENT, compat_invoice
from billing.pricing.currencies import currency_code, currency_exponent
from billing.pricing.errors import InvalidField, OutOfRange, PricingError
from billing.pricing.invoice import Invoice
from billing.pricing.models import Price, RuleSet, TaxBehavior
from billing.pricing.numbers import ZERO, major, scale, to_decimal
from billing.pricing.proration import Proration, prorate
from billing.pricing.reading import Fields, at, to_instant
from billing.pricing.sources import exponent_for, price_from_config, price_from_stripe
from billing.pricing.standard import standard_invoice
from billing.pricing.terms import (
    CREDIT_PRIORITY_DEFAULT,
    ITEMS_MAX,
    TERMS_MAX,
    Commitment,
    Coupon,
    Credit,
    CreditCategory,
    CreditTiming,
    FixedFee,
    InvoiceInput,
    MinimumSpend,
    TaxRounding,
    UsageItem,
)

INPUT_FIELDS: Final = frozenset(
    {
        "customer_id",
        "period_start",
        "period_end",
        "usage_items",
        "commitments",
        "credits",
        "tax_rate",
        "coupons",
        "fixed_fees",
        "minimum_spend",
        "tax_behavior",
        "tax_rounding",
        "currency",
    }
)
ITEM_FIELDS: Final = frozenset({"metric", "quantity", "price_config", "price", "taxable"})
COMMITMENT_FIELDS: Final = frozenset({"amount", "applied", "start_date", "end_date", "metrics"})
CREDIT_FIELDS: Final = frozenset(
    {"amount", "reason", "effective_at", "expires_at", "priority", "category", "timing", "metrics"}
)
COUPON_FIELDS: Final = frozenset({"percent_off", "amount_off", "metrics"})
FEE_FIELDS: Final = frozenset({"amount", "proration", "start_date", "end_date", "taxable"})
PRIORITY_MAX: Final = 100


class InvoiceSimulator:
    """Computes invoices without touching anything.

    `rules` is "compat" (the predecessor's numbers, the default) or "stripe" (Stripe's rules and
    the further terms: coupons, fixed fees, minimum spend, inclusive tax, credit order).
    """

    def __init__(self, rules: RuleSet | str = RuleSet.COMPAT) -> None:
        try:
            self.rules = RuleSet(rules)
        except ValueError:
            raise InvalidField("must be compat or stripe", path="rules") from None

    def simulate(
        self, given: InvoiceInput | Mapping[str, Any] | None = None, **fields: Any
    ) -> Invoice:
        """The invoice for an input document, an InvoiceInput, or the same as keyword arguments.

        Documents may be camelCase (JSON, YAML) or snake_case; amounts are in major units. Raises a
        PricingError with the path of the offending field.
        """
        if not isinstance(given, InvoiceInput):
            given = read_invoice_input({**(given or {}), **fields}, rules=self.rules)
        elif fields:
            raise InvalidField("fields cannot be added to an InvoiceInput")
        return compute_invoice(given, self.rules)

    def calculate_proration(
        self,
        amount: object,
        start_date: str | date | datetime,
        end_date: str | date | datetime,
        period_start: str | date | datetime,
        period_end: str | date | datetime,
        *,
        currency: str = "USD",
        mode: Proration | str = Proration.SECOND,
    ) -> Decimal:
        """The part of `amount` (major units) due for `[start_date, end_date)` within the period.

        Instants by default, as the predecessor; see `Proration` for the other modes.
        """
        exponent = exponent_for(currency_code(currency), self.rules)
        minor = prorate(
            scale(to_decimal(amount, "amount"), exponent),
            start=to_instant(start_date, "startDate"),
            end=to_instant(end_date, "endDate"),
            period_start=to_instant(period_start, "periodStart"),
            period_end=to_instant(period_end, "periodEnd"),
            mode=Proration(mode),
        )
        return major(minor, exponent)

    calculateProration = calculate_proration  # noqa: N815  (the predecessor's spelling)


def compute_invoice(given: InvoiceInput, rules: RuleSet) -> Invoice:
    """The invoice of a typed input under a rule set."""
    return compat_invoice(given) if rules is RuleSet.COMPAT else standard_invoice(given)


# -- reading the input -----------------------------------------------------------------------


def read_invoice_input(
    value: object, *, rules: RuleSet, path: str = "", default_price: Price | None = None
) -> InvoiceInput:
    """A typed input from a document; `default_price` serves items that name no price."""
    fields = Fields(value, path, INPUT_FIELDS)
    items = tuple(
        read_usage_item(item, item_path, rules=rules, default_price=default_price)
        for item_path, item in fields.items("usage_items", at_most=ITEMS_MAX)
    )
    currency = _input_currency(fields, items)
    exponent = items[0].price.exponent if items else exponent_for(currency, rules)
    with at(path):
        return InvoiceInput(
            customer_id=fields.text("customer_id", ""),
            period_start=fields.require_instant("period_start"),
            period_end=fields.require_instant("period_end"),
            currency=currency,
            exponent=exponent,
            items=items,
            tax_rate=fields.amount("tax_rate") or ZERO,
            tax_behavior=fields.choice("tax_behavior", TaxBehavior, TaxBehavior.EXCLUSIVE),
            tax_rounding=fields.choice("tax_rounding", TaxRounding, TaxRounding.LINE),
            **read_terms(fields, exponent),
        )


def read_terms(fields: Fields, exponent: int) -> dict[str, Any]:
    """The contract terms of an input: commitments, credits, coupons, fees, minimum spend."""
    readers = {
        "commitments": _commitment,
        "credits": _credit,
        "coupons": _coupon,
        "fixed_fees": _fixed_fee,
    }
    terms: dict[str, Any] = {}
    for name, reader in readers.items():
        members = fields.items(name, at_most=TERMS_MAX)
        terms[name] = tuple(reader(item, path, exponent) for path, item in members)
    if fields.has("minimum_spend"):
        amount = fields.require_amount("minimum_spend")
        terms["minimum_spend"] = MinimumSpend(scale(amount, exponent))
    return terms


def _input_currency(fields: Fields, items: tuple[UsageItem, ...]) -> str:
    """The input's own currency, else the first item's, else USD as the predecessor."""
    if fields.has("currency"):
        return currency_code(fields.get("currency"), path=fields.path_of("currency"))
    return items[0].price.currency if items else "USD"


def read_usage_item(
    value: object, path: str, *, rules: RuleSet, default_price: Price | None = None
) -> UsageItem:
    """One usage item; its price is a PriceConfig, a Stripe Price object or the default."""
    if isinstance(value, UsageItem):
        return value
    fields = Fields(value, path, ITEM_FIELDS)
    return UsageItem(
        metric=fields.text("metric"),
        quantity=fields.require_number("quantity"),
        price=_item_price(fields, rules, default_price),
        taxable=fields.flag("taxable", default=True),
    )


def _item_price(fields: Fields, rules: RuleSet, default_price: Price | None) -> Price:
    if fields.has("price"):
        value, path = fields.get("price"), fields.path_of("price")
        if isinstance(value, Price):
            return value
        if rules is RuleSet.COMPAT or not isinstance(value, Mapping):
            raise InvalidField("a Stripe price needs the rule set 'stripe'", path=path)
        with at(path):
            return price_from_stripe(value)
    if not fields.has("price_config") and default_price is not None:
        return default_price
    value, path = fields.require("price_config"), fields.path_of("price_config")
    return value if isinstance(value, Price) else price_from_config(value, rules=rules, path=path)


def _commitment(value: object, path: str, exponent: int) -> Commitment:
    if isinstance(value, Commitment):
        return value
    fields = Fields(value, path, COMMITMENT_FIELDS)
    with at(path):
        return Commitment(
            amount=scale(fields.require_amount("amount"), exponent),
            applied=scale(fields.amount("applied") or ZERO, exponent),
            start=fields.instant("start_date"),
            end=fields.instant("end_date"),
            metrics=fields.names("metrics"),
        )


def _credit(value: object, path: str, exponent: int) -> Credit:
    if isinstance(value, Credit):
        return value
    fields = Fields(value, path, CREDIT_FIELDS)
    return Credit(
        amount=scale(fields.require_amount("amount"), exponent),
        reason=fields.text("reason", ""),
        effective_at=fields.instant("effective_at"),
        expires_at=fields.instant("expires_at"),
        priority=_priority(fields),
        category=fields.choice("category", CreditCategory, CreditCategory.PAID),
        timing=fields.choice("timing", CreditTiming, CreditTiming.BEFORE_TAX),
        metrics=fields.names("metrics"),
    )


def _priority(fields: Fields) -> int:
    value = fields.number("priority")
    if value is None:
        return CREDIT_PRIORITY_DEFAULT
    if value % 1 or not 0 <= value <= PRIORITY_MAX:
        raise OutOfRange(f"must be from 0 to {PRIORITY_MAX}", path=fields.path_of("priority"))
    return int(value)


def _coupon(value: object, path: str, exponent: int) -> Coupon:
    if isinstance(value, Coupon):
        return value
    fields = Fields(value, path, COUPON_FIELDS)
    amount = fields.amount("amount_off")
    with at(path):
        return Coupon(
            percent_off=fields.amount("percent_off"),
            amount_off=None if amount is None else scale(amount, exponent),
            name=fields.text("name", ""),
            metrics=fields.names("metrics"),
        )


def _fixed_fee(value: object, path: str, exponent: int) -> FixedFee:
    if isinstance(value, FixedFee):
        return value
    fields = Fields(value, path, FEE_FIELDS)
    return FixedFee(
        description=fields.text("description"),
        amount=scale(fields.require_amount("amount"), exponent),
        proration=fields.choice("proration", Proration, Proration.NONE),
        start=fields.instant("start_date"),
        end=fields.instant("end_date"),
        taxable=fields.flag("taxable", default=True),
    )


# -- the predecessor's helpers ---------------------------------------------------------------


def to_decimal_value(value: object) -> Decimal:
    """`toDecimal`: an exact Decimal; NaN and non-numbers raise."""
    return to_decimal(value, "value")


def round_to_currency(value: object, currency: str | None = None) -> Decimal:
    """`roundToCurrency`: half up to two places, or to the currency's own when it is named."""
    places = COMPAT_EXPONENT if currency is None else currency_exponent(currency)
    number = to_decimal(value, "value")
    return major(int(scale(number, places).to_integral_value("ROUND_HALF_UP")), places)


__all__ = [
    "InvoiceSimulator",
    "PricingError",
    "compute_invoice",
    "read_invoice_input",
    "read_usage_item",
    "round_to_currency",
    "to_decimal_value",
]
