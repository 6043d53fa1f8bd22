"""Pushes and the accounts they go to: what was told to Stripe, and what a person decides."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from billing import selectors
from billing.models import Mode, Push
from billing.models.pushes import OPEN_STATES
from billing.services import grace, review, running
from billing.services.accounts import may_send, rate_of, resume_account
from billing.tasks import wake_push
from stripemeter.lib import clock, posted
from stripemeter.lib.errors import invalid
from stripemeter.lib.pages import PAGE_ROWS, Pager, back, filters_of
from stripemeter.lib.panels import remembered
from stripemeter.tenancy.operators import operator_page

#: States that a person may settle.
DECIDABLE = ("needs_review", "unknown", "parked")
OPEN, WAITING = "open", "waiting"
#: The sums over every push are read this often at most.
TOTALS_SECONDS = 30


def totals_of(tenant_id: int) -> tuple[list[selectors.MappingTotals], datetime]:
    """Where pushing stands per metric and period, at most `TOTALS_SECONDS` old; and as of when."""
    return remembered(
        f"panel-push-totals:{tenant_id}",
        TOTALS_SECONDS,
        lambda: selectors.mapping_totals(tenant_id=tenant_id),
    )


@require_GET
@operator_page()
def pushes(request: Any) -> HttpResponse:
    """Intents, newest first, and where each mapping stands."""
    tenant = request.operator.tenant
    form = filters_of(request, "state", "mode", "customerRef")
    pager = Pager(request, tenant.key, "pushes", form)
    groups = {OPEN: OPEN_STATES, WAITING: DECIDABLE}
    states = groups.get(form["state"], (form["state"],) if form["state"] else ())
    rows = selectors.pushes(
        tenant_id=tenant.pk,
        states=states,
        mode=form["mode"] or None,
        customer_ref=form["customerRef"] or None,
        before=UUID(pager.after) if pager.after else None,
        limit=PAGE_ROWS + 1,
    )
    totals, totals_at = totals_of(tenant.pk)
    context = {
        "title": "Pushes",
        "form": form,
        "pager": pager,
        "rows": pager.cut(rows, lambda row: str(row.id)),
        "states": [
            (OPEN, "Open"), (WAITING, "Waiting for a person"),
            *((state.value, state.value.replace("_", " ").capitalize()) for state in Push.State),
        ],
        "modes": Mode.choices,
        "counts": selectors.push_counts(tenant_id=tenant.pk),
        "totals": totals,
        "totals_at": totals_at,
        "grace": grace.in_grace(now=clock.now(), tenant_id=tenant.pk, limit=50),
        "now": clock.now(),
        "held": selectors.held_cursors(tenant_id=tenant.pk, limit=20),
    }  # fmt: skip
    return render(request, "billing/pushes.html", context)


@require_GET
@operator_page()
def push(request: Any, push_id: UUID) -> HttpResponse:
    """One push: what it says, every attempt, and the verdict if a person must give one."""
    tenant = request.operator.tenant
    found = selectors.push(tenant_id=tenant.pk, push_id=push_id)
    if found is None:
        raise Http404
    context = {
        "title": "Push",
        "push": found,
        "attempts": selectors.push_attempts(tenant_id=tenant.pk, push_id=push_id),
        "mapping": selectors.mapping(tenant_id=tenant.pk, mapping_id=found.mapping_id),
        "decidable": found.state in DECIDABLE,
    }
    return render(request, "billing/push.html", context)


@require_POST
@operator_page("maintainer")
def settle_push(request: Any, push_id: UUID) -> HttpResponse:
    """Say whether Stripe has the value."""
    note = posted.plain(request, "note", chars_max=500)
    found = review.settle_push(
        tenant_id=request.operator.tenant.pk,
        push_id=push_id,
        verdict=request.POST.get("verdict", ""),
        note=note,
        actor=request.operator.actor,
        now=clock.now(),
    )
    messages.success(request, f"The push is {found.state} now.")
    return back(request, reverse("ops:push", args=[push_id]))


@require_POST
@operator_page("maintainer")
def push_now(request: Any) -> HttpResponse:
    """Plan what is due and wake a worker, instead of waiting for the next tick."""
    planned, skipped = running.plan_now(tenant_id=request.operator.tenant.pk, now=clock.now())
    wake_push()
    messages.success(request, f"{planned} new intents; workers send them now.")
    for mode, reason in skipped.items():
        messages.warning(request, f"{mode}: {reason}")
    return back(request, reverse("ops:pushes"))


@require_POST
@operator_page("maintainer")
def release_cursors(request: Any) -> HttpResponse:
    """Plan held customers of a mapping again."""
    try:
        mapping_id = UUID(request.POST.get("mapping", ""))
    except ValueError as error:
        raise invalid("mapping", "must be a UUID") from error
    mode = request.POST.get("mode", "")
    if mode not in Mode.values:
        raise invalid("mode", "must be live or test")
    released = review.release_cursors(
        tenant_id=request.operator.tenant.pk,
        mapping_id=mapping_id,
        mode=mode,
        actor=request.operator.actor,
        now=clock.now(),
    )
    messages.success(request, f"{released} released; they are planned again.")
    return back(request, reverse("ops:pushes"))


@require_GET
@operator_page()
def accounts(request: Any) -> HttpResponse:
    """The Stripe accounts that this tenant's mappings use."""
    now = clock.now()
    rows = [
        {"account": account, "rate": rate_of(account), "sends": may_send(account, now=now)}
        for account in selectors.accounts_of(request.operator.tenant.pk)
    ]
    context = {"title": "Stripe accounts", "rows": rows}
    return render(request, "billing/accounts.html", context)


@require_POST
@operator_page("owner")
def resume(request: Any, account_id: int) -> HttpResponse:
    """Send to a halted account again; its mode is proved anew."""
    tenant = request.operator.tenant
    if account_id not in {account.pk for account in selectors.accounts_of(tenant.pk)}:
        raise Http404
    resume_account(
        account_id=account_id, tenant_id=tenant.pk, actor=request.operator.actor, now=clock.now()
    )
    messages.success(request, "Resumed. The next push proves its mode again.")
    return back(request, reverse("ops:accounts"))
