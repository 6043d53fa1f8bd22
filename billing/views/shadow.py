"""Shadow against live, and the guarded way from one to the other."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from billing import ids, selectors
from billing.models import PriceMapping
from billing.services import parity
from billing.services.mappings import Actor
from billing.services.parity import Target
from stripemeter.lib import clock
from stripemeter.lib.errors import invalid
from stripemeter.lib.panels import remembered
from stripemeter.tenancy.operators import Operator, operator_page

EVENT_NAME_CHARS_MAX = 100
#: The sums of 35 days are read this often at most; the acts of a cut-over read them anew.
SIDES_SECONDS = 30


@require_GET
@operator_page()
def shadow(request: Any, mapping_id: UUID) -> HttpResponse:
    """Both sides day by day, what a cut-over still lacks, and the form that asks for it."""
    operator: Operator = request.operator
    mapping = _mapping(operator, mapping_id)
    now = clock.now()
    target = _target(request.GET, mapping)
    sides, sides_at = remembered(
        f"panel-parity:{operator.tenant.pk}:{mapping_id}",
        SIDES_SECONDS,
        lambda: parity.parity(mapping=mapping, now=now),
    )
    found = parity.conditions(mapping=mapping, target=target, found=sides)
    asked = mapping.cutover or {}
    context = {
        "title": f"Shadow of {mapping.metric.name} against live",
        "mapping": mapping,
        "parity": sides,
        "parity_at": sides_at,
        "conditions": found,
        "ready": all(each.holds for each in found),
        "target": target,
        "cut_at": parity.cut_at(mapping, now=now),
        "asked": asked,
        "own_request": asked.get("requestedBy") == operator.actor,
        "clean_days_min": parity.CLEAN_DAYS_MIN,
    }
    return render(request, "billing/shadow.html", context)


@require_POST
@operator_page("maintainer")
def request_cutover(request: Any, mapping_id: UUID) -> HttpResponse:
    """Ask for the promotion; an owner approves it."""
    mapping = _mapping(request.operator, mapping_id)
    parity.request_cutover(
        actor=_actor(request.operator),
        mapping_id=mapping_id,
        target=_target(request.POST, mapping),
        typed=str(request.POST.get("typed", "")),
    )
    messages.success(request, "Asked. An owner other than you approves it on this page.")
    return redirect("ops:mapping-shadow", mapping_id=mapping_id)


@require_POST
@operator_page("owner")
def approve_cutover(request: Any, mapping_id: UUID) -> HttpResponse:
    """Do it: the mapping ends at the cut, its successor starts there."""
    _mapping(request.operator, mapping_id)
    successor = parity.approve_cutover(
        actor=_actor(request.operator),
        mapping_id=mapping_id,
        typed=str(request.POST.get("typed", "")),
    )
    messages.success(request, "Cut over. This mapping takes over at the time it is in force from.")
    return redirect("ops:mapping", mapping_id=successor.pk)


@require_POST
@operator_page("maintainer")
def withdraw_cutover(request: Any, mapping_id: UUID) -> HttpResponse:
    """Take the request back."""
    _mapping(request.operator, mapping_id)
    parity.withdraw_cutover(actor=_actor(request.operator), mapping_id=mapping_id)
    messages.success(request, "Withdrawn.")
    return redirect("ops:mapping-shadow", mapping_id=mapping_id)


def _mapping(operator: Operator, mapping_id: UUID) -> PriceMapping:
    found = selectors.mapping(tenant_id=operator.tenant.pk, mapping_id=mapping_id)
    if found is None or found.ended_at is not None:
        raise Http404
    return found


def _actor(operator: Operator) -> Actor:
    return Actor(operator.tenant.pk, operator.actor, clock.now())


def _target(given: Any, mapping: PriceMapping) -> Target:
    """The live objects that were named; those of the mapping where none were."""
    account = str(given.get("stripeAccount", "")).strip() or mapping.stripe_account
    price = str(given.get("priceId", "")).strip() or mapping.price_id
    name = str(given.get("stripeMeterEventName", "")).strip()
    if not ids.ACCOUNT.fullmatch(account):
        raise invalid("stripeAccount", "must be default or acct_…")
    if not ids.PRICE.fullmatch(price):
        raise invalid("priceId", "must be price_…")
    if len(name) > EVENT_NAME_CHARS_MAX or not name.isprintable():
        raise invalid("stripeMeterEventName", "has at most 100 printable characters")
    return Target(account, price, name or mapping.stripe_meter_event_name)
