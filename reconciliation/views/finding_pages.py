"""The panel, runs and findings."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import Count, Sum
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from reconciliation.facts import Cause
from reconciliation.models import Finding
from reconciliation.selectors import repairs as selectors
from reconciliation.selectors import reports
from reconciliation.services import runs
from reconciliation.services.findings import decide as record_decision
from reconciliation.tasks import wake
from stripemeter.lib import clock, posted, strictjson, text
from stripemeter.lib.pages import PAGE_ROWS, Pager, back, filters_of
from stripemeter.lib.panels import render_panel
from stripemeter.lib.periods import utc_month
from stripemeter.tenancy.operators import operator_page

SHOWN, RUNS = 6, 20
STATUSES = ("parity", "settling", "drift", "unread")


@require_GET
@operator_page()
def reconciliation_panel(request: Any) -> HttpResponse:
    """The last run, and open findings by cause."""
    tenant_id = request.operator.tenant.pk
    newest = reports.latest_runs(tenant_id=tenant_id, limit=1)
    causes = (
        Finding.objects.filter(tenant_id=tenant_id, closed_at__isnull=True, state="open")
        .values("cause")
        .annotate(number=Count("id"), units=Sum("units"))
        .order_by("-number", "cause")
    )
    context = {"run": newest[0] if newest else None, "causes": list(causes)}
    return render_panel(request, "reconciliation/_reconciliation_panel.html", context)


@require_GET
@operator_page()
def customer_findings(request: Any) -> HttpResponse:
    """A customer's findings, on the customer's page."""
    ref = request.GET.get("ref", "")
    if text.reference_problem(ref):
        raise Http404
    found = reports.findings(
        tenant_id=request.operator.tenant.pk, customer_ref=ref, active=True, limit=SHOWN
    )
    context = {"rows": found, "ref": ref, "alarms": any(row.state == "open" for row in found)}
    return render_panel(request, "reconciliation/_customer_findings.html", context, refresh=30)


@require_GET
@operator_page()
def reconciliation(request: Any) -> HttpResponse:
    """The newest runs and the lines of the running month that differ."""
    tenant_id = request.operator.tenant.pk
    now = clock.now()
    period = utc_month(now)
    wanted = reports.Filter(tenant_id=tenant_id, period=period, differing=True)
    lines = reports.rows(wanted, limit=PAGE_ROWS + 1)
    context = {
        "title": "Reconciliation",
        "runs": reports.latest_runs(tenant_id=tenant_id, limit=RUNS),
        "lines": lines[:PAGE_ROWS],
        "is_cut": len(lines) > PAGE_ROWS,
        "period": period,
    }
    return render(request, "reconciliation/reconciliation.html", context)


@require_POST
@operator_page("maintainer")
def start_run(request: Any) -> HttpResponse:
    """Compare now; points at the run that is under way if there is one."""
    _, is_new = runs.request_run(
        tenant_id=request.operator.tenant.pk, actor=request.operator.actor, now=clock.now()
    )
    wake()
    messages.success(request, "Queued." if is_new else "A run is under way already.")
    return back(request, reverse("ops:reconciliation"))


@require_GET
@operator_page()
def run(request: Any, run_id: UUID) -> HttpResponse:
    """One run: every number of its lines, those in parity on request."""
    tenant = request.operator.tenant
    found = reports.run(tenant_id=tenant.pk, run_id=run_id)
    if found is None:
        raise Http404
    form = filters_of(request, "status")
    pager = Pager(request, tenant.key, f"ops-run-{run_id}", form)
    status = form["status"] if form["status"] in STATUSES else ""
    rows = reports.lines_of(
        found,
        limit=PAGE_ROWS + 1,
        status=status,
        after=tuple(pager.after) if pager.after else None,
    )
    shown = pager.cut(rows, lambda row: [row.customer_ref, str(row.id)])
    names = reports.metric_names(tenant.pk)
    context = {
        "title": "Run",
        "run": found,
        "form": form,
        "pager": pager,
        "statuses": STATUSES,
        "rows": [{"line": row, "metric": names.get(row.metric_id, "")} for row in shown],
    }
    return render(request, "reconciliation/run.html", context)


@require_GET
@operator_page()
def findings(request: Any) -> HttpResponse:
    """Findings with a named cause, newest first."""
    tenant = request.operator.tenant
    form = filters_of(request, "state", "cause", "severity", "customerRef")
    pager = Pager(request, tenant.key, "ops-findings", form)
    state = form["state"]
    rows = reports.findings(
        tenant_id=tenant.pk,
        limit=PAGE_ROWS + 1,
        before=UUID(pager.after) if pager.after else None,
        states=(state,) if state in Finding.State.values else (),
        cause=form["cause"] or None,
        severity=form["severity"] or None,
        customer_ref=form["customerRef"] or None,
    )
    names = reports.metric_names(tenant.pk)
    shown = pager.cut(rows, lambda row: str(row.pk))
    context = {
        "title": "Findings",
        "form": form,
        "pager": pager,
        "rows": [{"finding": row, "metric": names.get(row.metric_id, "")} for row in shown],
        "states": Finding.State.choices,
        "severities": Finding.Severity.choices,
        "causes": [str(cause) for cause in Cause],
    }
    return render(request, "reconciliation/findings.html", context)


@require_GET
@operator_page()
def finding(request: Any, finding_id: UUID) -> HttpResponse:
    """One finding with its evidence, and what people say of it."""
    tenant_id = request.operator.tenant.pk
    found = reports.finding(tenant_id=tenant_id, finding_id=finding_id)
    if found is None:
        raise Http404
    steps = selectors.steps_of(found)
    context = {
        "plans": [step.plan for step in steps],
        "can_propose": found.closed_at is None
        and not any(step.plan.state in selectors.UNDER_WAY for step in steps),
        "title": "Finding",
        "finding": found,
        "metric": reports.metric_names(tenant_id).get(found.metric_id, ""),
        "evidence": [
            (name, strictjson.dumps(value).decode() if isinstance(value, dict | list) else value)
            for name, value in found.evidence.items()
        ],
    }
    return render(request, "reconciliation/finding.html", context)


@require_POST
@operator_page("maintainer")
def decide(request: Any, finding_id: UUID) -> HttpResponse:
    """Explain it, accept it, or take it up again."""
    note = posted.plain(request, "note", chars_max=1_000)
    record_decision(
        tenant_id=request.operator.tenant.pk,
        finding_id=finding_id,
        state=request.POST.get("state", ""),
        note=note,
        owner=request.operator.actor,
        actor=request.operator.actor,
        now=clock.now(),
    )
    messages.success(request, "Recorded.")
    return back(request, reverse("ops:finding", args=[finding_id]))
