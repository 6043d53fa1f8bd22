"""Repair plans: the dry run, approval by a second person, apply, read back, undo."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from reconciliation.facts import Cause
from reconciliation.models import Finding, RepairPlan
from reconciliation.selectors import repairs as selectors
from reconciliation.services import repairs, verifying
from reconciliation.tasks import wake
from stripemeter.lib import clock, posted
from stripemeter.lib.pages import PAGE_ROWS, Pager, filters_of
from stripemeter.tenancy.operators import operator_page

NOTE_CHARS_MAX = 1_000


@require_GET
@operator_page()
def plans(request: Any) -> HttpResponse:
    """Every plan, newest first."""
    tenant = request.operator.tenant
    form = filters_of(request, "state")
    pager = Pager(request, tenant.key, "ops-plans", form)
    rows = selectors.plans(
        tenant_id=tenant.pk,
        limit=PAGE_ROWS + 1,
        before=UUID(pager.after) if pager.after else None,
        state=form["state"] if form["state"] in RepairPlan.State.values else "",
    )
    shown = pager.cut(rows, lambda row: str(row.pk))
    context = {
        "title": "Repair plans",
        "form": form,
        "pager": pager,
        "rows": [{"plan": row, **_effect(list(row.steps.all()))} for row in shown],
        "states": RepairPlan.State.choices,
    }
    return render(request, "reconciliation/plans.html", context)


def _effect(steps: list[Any]) -> dict[str, Any]:
    """What the steps change at Stripe: units by metric make no sum, money by currency does."""
    money: dict[str, Decimal] = {}
    for step in steps:
        if step.effect_minor is not None and step.currency:
            money[step.currency] = money.get(step.currency, Decimal(0)) + step.effect_minor
    return {"steps": steps, "money": sorted(money.items())}


@require_http_methods(["GET", "POST"])
@operator_page("maintainer")
def propose(request: Any) -> HttpResponse:
    """The dry run for findings; POST stores it as a plan."""
    tenant_id = request.operator.tenant.pk
    ids, cause = _chosen(request, tenant_id)
    if request.method == "POST":
        note = posted.plain(request, "note", chars_max=NOTE_CHARS_MAX)
        made = repairs.propose(
            tenant_id=tenant_id,
            finding_ids=ids,
            note=note,
            actor=request.operator.actor,
            now=clock.now(),
        )
        messages.success(request, "Proposed. Another person approves it.")
        return HttpResponseRedirect(reverse("ops:plan", args=[made.pk]))
    found = repairs.draft(tenant_id=tenant_id, finding_ids=ids) if ids else repairs.Proposal()
    named = {
        each.pk: each
        for each in Finding.objects.filter(
            tenant_id=tenant_id, pk__in=[each["findingId"] for each in found.refusals]
        )
    }
    context = {
        "title": "Dry run of a repair",
        "steps": found.steps,
        "refusals": [
            {"finding": named.get(each["findingId"]), "reason": each["reason"]}
            for each in found.refusals
        ],
        "ids": ids,
        "cause": cause,
        "kinds": dict(_kinds()),
    }
    return render(request, "reconciliation/propose.html", context)


def _kinds() -> list[tuple[str, str]]:
    return [(str(value), str(label)) for value, label in repairs.Kind.choices]


def _chosen(request: Any, tenant_id: int) -> tuple[list[UUID], str]:
    """The findings that are named, or all open ones of a cause."""
    given = request.POST if request.method == "POST" else request.GET
    cause = str(given.get("cause", ""))
    try:
        ids = [UUID(value) for value in given.getlist("finding")]
        if not ids and cause:
            ids = selectors.open_finding_ids(
                tenant_id=tenant_id, cause=str(Cause(cause)), limit=repairs.FINDINGS_MAX
            )
    except ValueError as error:
        raise Http404 from error
    return ids, cause


@require_GET
@operator_page()
def plan(request: Any, plan_id: UUID) -> HttpResponse:
    """One plan: what it does, who said so, and what reading back showed."""
    found = selectors.plan(tenant_id=request.operator.tenant.pk, plan_id=plan_id)
    if found is None:
        raise Http404
    steps = list(found.steps.order_by("position").select_related("finding"))
    own = found.created_by == request.operator.actor and not request.operator.tenant.single_operator
    context = {
        "title": "Repair plan",
        "plan": found,
        **_effect(steps),
        "is_own": own,
        "can_undo": found.state in {"applied", "verified", "failed"},
    }
    return render(request, "reconciliation/plan.html", context)


def _decided(request: Any, plan_id: UUID, *, approve: bool) -> None:
    repairs.decide(
        tenant_id=request.operator.tenant.pk,
        plan_id=plan_id,
        approve=approve,
        actor=request.operator.actor,
        now=clock.now(),
    )


def _apply(request: Any, plan_id: UUID) -> None:
    repairs.apply(
        tenant_id=request.operator.tenant.pk,
        plan_id=plan_id,
        actor=request.operator.actor,
        now=clock.now(),
    )
    wake()


def _verify(request: Any, plan_id: UUID) -> None:
    verifying.verify(tenant_id=request.operator.tenant.pk, plan_id=plan_id, clock=clock.now)


def _undo(request: Any, plan_id: UUID) -> None:
    repairs.undo(
        tenant_id=request.operator.tenant.pk,
        plan_id=plan_id,
        actor=request.operator.actor,
        now=clock.now(),
    )
    wake()


_ACTS: dict[str, tuple[Callable[[Any, UUID], None], str]] = {
    "approve": (lambda request, pk: _decided(request, pk, approve=True), "Approved."),
    "reject": (lambda request, pk: _decided(request, pk, approve=False), "Rejected."),
    "apply": (_apply, "Applied. Pushes follow, then it is read back."),
    "verify": (_verify, "Read back."),
    "undo": (_undo, "Undone. What was sent is cancelled or countered; the findings show again."),
}


@require_POST
@operator_page("maintainer")
def act(request: Any, plan_id: UUID, verb: str) -> HttpResponse:
    """Approve, reject, apply, read back or undo."""
    if (
        verb not in _ACTS
        or selectors.plan(tenant_id=request.operator.tenant.pk, plan_id=plan_id) is None
    ):
        raise Http404
    do, said = _ACTS[verb]
    do(request, plan_id)
    messages.success(request, said)
    return HttpResponseRedirect(reverse("ops:plan", args=[plan_id]))
