"""Errors of the pricing library: one class per cause, with a stable code and a path if known."""

from __future__ import annotations


class PricingError(ValueError):
    """Base of every refusal by the pricing library.

    `code` is stable and meant for machines; `path` names the offending field of the input
    (`usageItems[0].priceConfig.tiers[1].upTo`) when the input was a document.
    """

    code = "pricing_error"

    def __init__(self, detail: str, *, path: str = "") -> None:
        super().__init__(f"{path}: {detail}" if path else detail)
        self.detail = detail
        self.path = path


class NotANumber(PricingError):
    """A number is NaN, infinite, a boolean, or not a number at all."""

    code = "not_a_number"


class OutOfRange(PricingError):
    """A number has too many digits or decimals to be a quantity or an amount."""

    code = "out_of_range"


class NegativeNotAllowed(PricingError):
    """A quantity, price or amount is negative where that has no meaning."""

    code = "negative_not_allowed"


class UnknownModel(PricingError):
    """The pricing model is none of flat, package, graduated, volume, tiered."""

    code = "unknown_model"


class MissingTiers(PricingError):
    """A tiered price has no tiers."""

    code = "missing_tiers"


class UnsortedTiers(PricingError):
    """Tier bounds do not rise strictly from above zero, or an open tier is not the last."""

    code = "unsorted_tiers"


class FiniteLastTier(PricingError):
    """The last tier has an end, so usage above it would have no price."""

    code = "finite_last_tier"


class MissingField(PricingError):
    """A required field is absent."""

    code = "missing_field"


class InvalidField(PricingError):
    """A field has the wrong type, an unknown name or a value outside its choices."""

    code = "invalid_field"


class InvalidCurrency(PricingError):
    """The currency is not a three-letter code, or the price has no amounts in it."""

    code = "invalid_currency"


class MixedCurrencies(PricingError):
    """One invoice holds amounts in more than one currency."""

    code = "mixed_currencies"


class UnsupportedTerm(PricingError):
    """A term of the invoice does not exist under the chosen rule set."""

    code = "unsupported_term"


class InvalidPeriod(PricingError):
    """A period ends before it starts, or is empty."""

    code = "invalid_period"
