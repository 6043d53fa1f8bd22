"""The pricing library under its public name; importing it needs neither Django nor a database.

    from stripemeter.pricing import InvoiceSimulator

The functions keep the predecessor's camelCase spellings beside Python's.
"""

from billing.pricing import (
    Invoice,
    InvoiceInput,
    InvoiceLine,
    InvoiceSimulator,
    Price,
    PricingError,
    Proration,
    RuleSet,
    Tier,
    calculate_graduated_price,
    calculate_tiered_price,
    calculate_volume_price,
    next_unit,
    price_from_config,
    price_from_stripe,
    prorate,
    rate,
    round_to_currency,
    to_decimal,
)

calculateGraduatedPrice = calculate_graduated_price  # noqa: N816
calculateTieredPrice = calculate_tiered_price  # noqa: N816
calculateVolumePrice = calculate_volume_price  # noqa: N816
roundToCurrency = round_to_currency  # noqa: N816
toDecimal = to_decimal  # noqa: N816

__all__ = [
    "Invoice",
    "InvoiceInput",
    "InvoiceLine",
    "InvoiceSimulator",
    "Price",
    "PricingError",
    "Proration",
    "RuleSet",
    "Tier",
    "calculateGraduatedPrice",
    "calculateTieredPrice",
    "calculateVolumePrice",
    "calculate_graduated_price",
    "calculate_tiered_price",
    "calculate_volume_price",
    "next_unit",
    "price_from_config",
    "price_from_stripe",
    "prorate",
    "rate",
    "roundToCurrency",
    "round_to_currency",
    "toDecimal",
    "to_decimal",
]
