"""From priced usage to the bill: credits, commitments, discounts and tax of the contract."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from billing.models import CustomerTerms
from billing.pricing import Invoice, InvoiceInput, PricingError, RuleSet, compute_invoice
from billing.pricing.models import TaxBehavior
from billing.pricing.numbers import ZERO
from billing.pricing.reading import Fields
from billing.pricing.simulator import INPUT_FIELDS, read_terms
from billing.pricing.terms import TaxRounding, UsageItem
from billing.projection import Projection
from stripemeter.lib.logs import get_logger

log = get_logger(__name__)
#: Members of a terms document, as the simulator's input has them.
MEMBERS = (
    "credits", "commitments", "coupons", "fixedFees", "minimumSpend", "taxRate", "taxBehavior",
    "taxRounding",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Terms:
    """A document ready to be applied to any currency."""

    document: Mapping[str, Any]

    def applied(
        self,
        projection: Projection,
        *,
        currency: str,
        exponent: int,
        items: tuple[UsageItem, ...],
        is_final: bool,
    ) -> Invoice:
        """The invoice of ``items``; a minimum spend counts only at the end of the period.

        Raises `PricingError` for terms that do not fit the currency.
        """
        fields = Fields(dict(self.document), "", INPUT_FIELDS)
        terms = read_terms(fields, exponent)
        given = InvoiceInput(
            customer_id=projection.customer_ref,
            period_start=projection.period.start,
            period_end=projection.period.end,
            currency=currency,
            exponent=exponent,
            items=items,
            tax_rate=fields.amount("tax_rate") or ZERO,
            tax_behavior=fields.choice("tax_behavior", TaxBehavior, TaxBehavior.EXCLUSIVE),
            tax_rounding=fields.choice("tax_rounding", TaxRounding, TaxRounding.LINE),
            **terms,
        )
        if not is_final:
            given = replace(given, minimum_spend=None)
        return compute_invoice(given, RuleSet.STRIPE)


def terms_of(*, tenant_id: int, customer_ref: str) -> Terms:
    """The customer's own terms, else the tenant's default, else none."""
    found = {
        row.customer_ref: row
        for row in CustomerTerms.objects.filter(tenant_id=tenant_id).filter(
            customer_ref__in=[customer_ref]
        )
        | CustomerTerms.objects.filter(tenant_id=tenant_id, customer_ref__isnull=True)
    }
    row = found.get(customer_ref) or found.get(None)
    return Terms({} if row is None else row.document)


def bill_of(
    projection: Projection,
    terms: Terms,
    *,
    units: Mapping[Any, Decimal] | None = None,
) -> Invoice | None:
    """The bill of a projection in its one currency; ``units`` by mapping id replace usage so far.

    None without a priced line or with several currencies.
    """
    lines = [line for line in projection.lines if line.price is not None]
    currencies = projection.currencies
    if len(currencies) != 1 or lines[0].price is None:
        return None
    items = tuple(
        UsageItem(
            line.usage.name,
            line.billed_units if units is None else units.get(line.mapping.pk, line.billed_units),
            line.price,
        )
        for line in lines
        if line.price is not None
    )
    try:
        return terms.applied(
            projection,
            currency=currencies[0],
            exponent=lines[0].price.exponent,
            items=items,
            is_final=units is not None,
        )
    except PricingError as error:
        log.warning("terms.unusable", customer=projection.customer_ref, error=str(error))
        return None
