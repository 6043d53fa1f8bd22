"""Long operations: what runs, how far it is, and what has come of it."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.cache import patch_cache_control
from django.views.decorators.http import require_GET, require_POST

from ledger import selectors
from ledger.downloads import failed_rows
from ledger.models import Operation
from ledger.services import backfill
from ledger.services import operations as writes
from stripemeter.lib import clock
from stripemeter.lib.instants import parse_instant, rfc3339
from stripemeter.lib.pages import PAGE_ROWS, Pager, filters_of
from stripemeter.tenancy.operators import operator_page

ERRORS_SHOWN_MAX = 20
COUNTERS_SHOWN_MAX = 50


@require_GET
@operator_page()
def operations(request: Any) -> HttpResponse:
    """Backfills and long replays, newest first."""
    tenant = request.operator.tenant
    form = filters_of(request, "kind", "status")
    pager = Pager(request, tenant.key, "operations", form)
    found = selectors.list_operations(
        tenant_id=tenant.pk,
        kind=form["kind"],
        status=form["status"],
        limit=PAGE_ROWS + 1,
        before=(parse_instant(pager.after[0]), UUID(pager.after[1])) if pager.after else None,
    )
    rows = pager.cut(found, lambda row: [rfc3339(row.created_at), str(row.id)])
    context = {
        "title": "Operations",
        "form": form,
        "pager": pager,
        "rows": [_state(row) for row in rows],
        "kinds": Operation.Kind.choices,
        "statuses": Operation.Status.choices,
    }
    return render(request, "ledger/operations.html", context)


def _state(operation: Operation) -> dict[str, Any]:
    """What page and progress bar say of an operation."""
    running = operation.status in writes.TO_DO
    total = max(operation.steps_total, 1)
    state: dict[str, Any] = {
        "operation": operation,
        "running": running,
        "stopping": running and operation.cancel_requested,
        "resumable": operation.status in {Operation.Status.CANCELLED, Operation.Status.FAILED},
        "percent": min(100, operation.steps_done * 100 // total),
        "request": operation.request,
    }
    if operation.kind == Operation.Kind.BACKFILL:
        counts = backfill.counts_of(operation)
        state["counts"] = {**counts, "left": counts["total"] - counts["processed"]}
    return state


@require_GET
@operator_page()
def operation(request: Any, operation_id: UUID) -> HttpResponse:
    """One operation: what was asked, how far it is, what failed."""
    found = writes.operation(tenant_id=request.operator.tenant.pk, operation_id=operation_id)
    context = {"title": f"{found.get_kind_display()} {str(found.id)[:8]}", **_shown(found)}
    return render(request, "ledger/operation.html", context)


def _shown(found: Operation) -> dict[str, Any]:
    errors = []
    if found.kind == Operation.Kind.BACKFILL:
        for error in backfill.errors_of(found):
            errors.append(error)
            if len(errors) == ERRORS_SHOWN_MAX:
                break
    changes = found.result.get("changes", {}) if found.kind == Operation.Kind.REPLAY else {}
    return {
        **_state(found),
        "errors": errors,
        "changes": [{"metric": name, **changes[name]} for name in sorted(changes)],
    }


@require_GET
@operator_page()
def progress(request: Any, operation_id: UUID) -> HttpResponse:
    """The part of the page that moves; it stops asking when the operation has ended."""
    found = writes.operation(tenant_id=request.operator.tenant.pk, operation_id=operation_id)
    response = render(request, "ledger/_operation_progress.html", _shown(found))
    patch_cache_control(response, no_store=True)
    return response


@require_POST
@operator_page("maintainer")
def cancel(request: Any, operation_id: UUID) -> HttpResponse:
    """Stop at the end of the current step."""
    writes.cancel(
        tenant_id=request.operator.tenant.pk,
        operation_id=operation_id,
        actor=request.operator.actor,
        now=clock.now(),
    )
    messages.success(request, "It stops at the end of its step. What is done stays done.")
    return redirect("ops:operation", operation_id=operation_id)


@require_POST
@operator_page("maintainer")
def resume(request: Any, operation_id: UUID) -> HttpResponse:
    """Go on where it stopped."""
    writes.resume(
        tenant_id=request.operator.tenant.pk,
        operation_id=operation_id,
        actor=request.operator.actor,
        now=clock.now(),
    )
    messages.success(request, "A worker goes on where it stopped.")
    return redirect("ops:operation", operation_id=operation_id)


@require_GET
@operator_page()
def errors(request: Any, operation_id: UUID) -> Any:
    """Every row of a backfill that was not stored, as CSV."""
    found = writes.operation(
        tenant_id=request.operator.tenant.pk,
        operation_id=operation_id,
        kind=Operation.Kind.BACKFILL,
    )
    return failed_rows(found)
