"""What a difference is worth, by the price of its mapping."""

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from billing.models import PriceMapping
from billing.pricing import PricingError, RuleSet
from billing.pricing.rating import Rater
from billing.services.prices import price_of

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Worth:
    """Minor units of a currency, signed as the drift; None where no price is known."""

    minor: Decimal | None = None
    currency: str = ""


class Prices:
    """Prices of mappings, read once per run."""

    def __init__(self) -> None:
        self._raters: dict[UUID, tuple[Rater, str] | None] = {}

    def worth(self, mapping_id: UUID, *, ours: Decimal, drift: Decimal) -> Worth:
        """What ``drift`` costs where the right total is ``ours``, both in Stripe's units.

        The price of ours minus the price of ours without the drift, so that tiers count.
        """
        known = self._rater(mapping_id)
        if known is None:
            return Worth()
        rater, currency = known
        try:
            right = rater.exact(max(ours, ZERO))
            wrong = rater.exact(max(ours - drift, ZERO))
        except PricingError:
            return Worth()
        return Worth(right - wrong, currency)

    def _rater(self, mapping_id: UUID) -> tuple[Rater, str] | None:
        if mapping_id not in self._raters:
            self._raters[mapping_id] = _load(mapping_id)
        return self._raters[mapping_id]


def _load(mapping_id: UUID) -> tuple[Rater, str] | None:
    mapping = PriceMapping.objects.filter(pk=mapping_id).select_related("tenant").first()
    if mapping is None:
        return None
    try:
        price = price_of(mapping)
        return None if price is None else (Rater(price, RuleSet.STRIPE), price.currency)
    except PricingError:
        return None
