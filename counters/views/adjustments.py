"""The inbox of adjustments: asked for by one, decided by another."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from counters import selectors
from counters.models import Adjustment
from counters.selectors import adjustments as reads
from counters.services import adjustments as writes
from counters.totals import ADDITIVE
from ledger.models import Metric
from stripemeter.lib import clock, posted, text
from stripemeter.lib.decimals import NotANumber, decimal_of, digits_and_decimals
from stripemeter.lib.errors import invalid
from stripemeter.lib.instants import InvalidInstant, parse_instant, rfc3339
from stripemeter.lib.pages import PAGE_ROWS, Pager, back, filters_of
from stripemeter.tenancy.operators import Operator, operator_page

ALL = "all"


@require_GET
@operator_page()
def adjustments(request: Any) -> HttpResponse:
    """Adjustments by state, newest first; without a choice those that wait."""
    operator: Operator = request.operator
    form = filters_of(request, "status", "metric", "customerRef")
    pager = Pager(request, operator.tenant.key, "adjustments", form)
    status = form["status"] or Adjustment.Status.PENDING
    rows = reads.adjustments(
        tenant_id=operator.tenant.pk,
        limit=PAGE_ROWS + 1,
        metric=form["metric"] or None,
        customer_ref=form["customerRef"] or None,
        status=None if status == ALL else status,
        before=(parse_instant(pager.after[0]), UUID(pager.after[1])) if pager.after else None,
    )
    context = {
        "title": "Adjustments",
        "form": {**form, "status": status},
        "pager": pager,
        "rows": pager.cut(rows, lambda row: [rfc3339(row.created_at), str(row.id)]),
        "statuses": [*Adjustment.Status.choices, (ALL, "All")],
        "reasons": [(reason.value, reason.label) for reason in writes.GIVEN_REASONS],
        "metrics": list(
            Metric.objects.filter(tenant=operator.tenant, aggregation__in=ADDITIVE)
            .order_by("name")
            .values_list("name", flat=True)
        ),
    }
    return render(request, "counters/adjustments.html", context)


@require_POST
@operator_page("maintainer")
def create_adjustment(request: Any) -> HttpResponse:
    """Ask for a correction; someone else approves it."""
    now = clock.now()
    tenant_id = request.operator.tenant.pk
    customer_ref = request.POST.get("customerRef", "")
    problem = text.reference_problem(customer_ref)
    if problem:
        raise invalid("customer", problem)
    instant = now
    if request.POST.get("at"):
        try:
            instant = parse_instant(f"{request.POST['at']}T12:00:00Z")
        except InvalidInstant as error:
            raise invalid("day", str(error)) from error
    period = selectors.period_of(tenant_id=tenant_id, customer_ref=customer_ref, instant=instant)
    writes.create_adjustment(
        tenant_id=tenant_id,
        metric=request.POST.get("metric", ""),
        customer_ref=customer_ref,
        period_start=period.start,
        delta=_delta(request.POST.get("delta", "")),
        reason=request.POST.get("reason", ""),
        note=_note(request),
        actor=request.operator.actor,
        now=now,
        day=instant.date(),
    )
    messages.success(request, "Asked for. It counts once someone else approves it.")
    return back(request, reverse("ops:adjustments"))


def _delta(written: str) -> Any:
    try:
        delta = decimal_of(written.strip())
    except NotANumber as error:
        raise invalid("delta", "must be a plain decimal number such as -12.5") from error
    digits, decimals = digits_and_decimals(delta)
    if digits > 26 or decimals > 12 or abs(delta) >= 10**26:
        raise invalid("delta", "may have at most 26 digits, 12 of them decimals")
    return delta


def _note(request: Any) -> str:
    return posted.plain(request, "note", chars_max=1_000)


@require_POST
@operator_page("maintainer")
def approve_adjustment(request: Any, adjustment_id: UUID) -> HttpResponse:
    """Let it count. Refused for whoever asked for it; a second click changes nothing."""
    operator: Operator = request.operator
    applied = writes.approve_adjustment(
        tenant_id=operator.tenant.pk,
        adjustment_id=adjustment_id,
        approver=writes.Approver(operator.actor, is_owner=operator.is_owner),
        now=clock.now(),
    )
    messages.success(request, "Approved; it counts now." if applied else "It was approved before.")
    return back(request, reverse("ops:adjustments"))


@require_POST
@operator_page("maintainer")
def reject_adjustment(request: Any, adjustment_id: UUID) -> HttpResponse:
    """Refuse it for good."""
    writes.reject_adjustment(
        tenant_id=request.operator.tenant.pk,
        adjustment_id=adjustment_id,
        actor=request.operator.actor,
        now=clock.now(),
        note=_note(request),
    )
    messages.success(request, "Rejected; it never counts.")
    return back(request, reverse("ops:adjustments"))


@require_POST
@operator_page("maintainer")
def revert_adjustment(request: Any, adjustment_id: UUID) -> HttpResponse:
    """Undo an approved one by a counter-entry."""
    writes.revert_adjustment(
        tenant_id=request.operator.tenant.pk,
        adjustment_id=adjustment_id,
        actor=request.operator.actor,
        now=clock.now(),
        note=_note(request),
    )
    messages.success(request, "Reverted by a counter-entry.")
    return back(request, reverse("ops:adjustments"))


@require_POST
@operator_page("maintainer")
def carry_adjustment(request: Any, adjustment_id: UUID) -> HttpResponse:
    """Let one of a frozen period count in the period that is open now."""
    operator: Operator = request.operator
    writes.carry_forward(
        tenant_id=operator.tenant.pk,
        adjustment_id=adjustment_id,
        approver=writes.Approver(operator.actor, is_owner=operator.is_owner),
        now=clock.now(),
        note=_note(request),
    )
    messages.success(request, "Carried forward into the open period.")
    return back(request, reverse("ops:adjustments"))
