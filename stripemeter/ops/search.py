"""One box that finds a customer, an event by its key, a push, or the customer of an invoice."""

import contextlib
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET

from billing.invoices import invoice_period
from billing.models import CustomerLink, Push
from counters.models import Counter
from ledger.identity import key_of_text
from ledger.models import Event
from stripemeter.lib.instants import rfc3339
from stripemeter.lib.pages import filters_of
from stripemeter.tenancy.operators import operator_page

HITS = 20


def _customer_url(ref: str) -> str:
    return f"{reverse('ops:customer')}?{urlencode({'ref': ref})}"


@require_GET
@operator_page()
def search(request: Any) -> HttpResponse:
    """Straight to the only hit; else a list."""
    tenant_id = request.operator.tenant.pk
    wanted = filters_of(request, "find")["find"]
    hits = _hits(tenant_id, wanted) if wanted else []
    if len(hits) == 1:
        return redirect(hits[0][2])
    return render(request, "ops/search.html", {"title": "Search", "find": wanted, "hits": hits})


def _hits(tenant_id: int, wanted: str) -> list[tuple[str, str, str]]:
    """(kind, name, address) of what matches, exact hits first."""
    keys = Event.objects.filter(tenant_id=tenant_id, key__in=_event_keys(wanted))
    found = [
        ("Event", wanted, reverse("ops:event", args=[key]))
        for key in keys.values_list("key", flat=True)
    ]
    pushes = Push.objects.filter(tenant_id=tenant_id, identifier=wanted).values_list(
        "id", "identifier"
    )
    found += [("Push", name, reverse("ops:push", args=[key])) for key, name in pushes]
    invoice = invoice_period(tenant_id=tenant_id, invoice_id=wanted)
    if invoice is not None:
        url = f"{_customer_url(invoice.customer_ref)}&{urlencode({'at': rfc3339(invoice.start)})}"
        found.append(("Invoice", f"{wanted}, {invoice.customer_ref}", url))
    links = CustomerLink.objects.filter(tenant_id=tenant_id, stripe_customer_id=wanted)
    refs = dict.fromkeys(links.values_list("customer_ref", flat=True))
    counters = Counter.objects.filter(
        tenant_id=tenant_id, customer_ref__gte=wanted, customer_ref__lt=f"{wanted}\U0010ffff"
    )
    refs |= dict.fromkeys(
        counters.order_by("customer_ref").values_list("customer_ref", flat=True).distinct()[:HITS]
    )
    return found + [("Customer", ref, _customer_url(ref)) for ref in refs]


def _event_keys(wanted: str) -> list[UUID]:
    """Keys that ``wanted`` may stand for: given text, the shown form, or the key itself."""
    keys = [UUID(bytes=key_of_text(wanted))]
    with contextlib.suppress(ValueError):
        keys.append(UUID(wanted.removeprefix("evt_")))
    return list(dict.fromkeys(keys))
