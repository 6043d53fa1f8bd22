"""Whose invoice it is: read at Stripe when an operator asks for one by its id."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from billing.models import CustomerLink, Mode, PriceMapping
from billing.stripe import reading
from billing.stripe.errors import StripeRefused, StripeUnavailable
from counters.models import Counter

_INVOICE = re.compile(r"in_[A-Za-z0-9]{1,64}")
#: A tenant rarely has more; each is one read of Stripe.
ACCOUNTS_MAX = 3


@dataclass(frozen=True, slots=True)
class InvoicePeriod:
    """The customer an invoice bills, and where the billed time begins."""

    customer_ref: str
    start: datetime


def invoice_period(*, tenant_id: int, invoice_id: str) -> InvoicePeriod | None:
    """What the live invoice bills, if it is of a customer of the tenant.

    None for other text, for an invoice that Stripe does not know, and while it does not answer.
    """
    if not _INVOICE.fullmatch(invoice_id):
        return None
    accounts = (
        PriceMapping.objects.filter(tenant_id=tenant_id)
        .order_by("stripe_account")
        .values_list("stripe_account", flat=True)
        .distinct()[:ACCOUNTS_MAX]
    )
    for account in accounts:
        try:
            found = reading.invoice(mode=Mode.LIVE, account=account, invoice_id=invoice_id)
        except (StripeRefused, StripeUnavailable):
            continue
        ref = _reference(tenant_id, str(found.get("customer")))
        lines = found.get("lines", {}).get("data") or []
        if ref is not None:
            starts = [line["period"]["start"] for line in lines] or [found["period_start"]]
            return InvoicePeriod(ref, datetime.fromtimestamp(min(starts), UTC))
    return None


def _reference(tenant_id: int, stripe_customer_id: str) -> str | None:
    linked = CustomerLink.objects.filter(
        tenant_id=tenant_id, mode=Mode.LIVE, stripe_customer_id=stripe_customer_id
    ).values_list("customer_ref", flat=True)
    own = Counter.objects.filter(tenant_id=tenant_id, customer_ref=stripe_customer_id)
    return linked.first() or (stripe_customer_id if own.exists() else None)
