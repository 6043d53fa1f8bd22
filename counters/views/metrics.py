"""Metrics and the inbox of what nobody has configured, or what was refused."""

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from counters.services.metrics import MetricSettings, configure_metric
from ledger.models import EventConflict, Metric
from ledger.services.conflicts import resolve_conflict as resolve
from stripemeter.lib import clock, posted, text
from stripemeter.lib.errors import Forbidden, ProblemError, invalid
from stripemeter.lib.pages import PAGE_ROWS, Pager, back, filters_of
from stripemeter.tenancy.operators import operator_page

LATENESS_HOURS_MAX = 24 * 34
_LIMITS = {"unit": 40, "description": 500, "uniqueField": 110}


@require_GET
@operator_page()
def metrics(request: Any) -> HttpResponse:
    """Every metric of the tenant."""
    tenant = request.operator.tenant
    form = filters_of(request, "search")
    pager = Pager(request, tenant.key, "metrics", form)
    rows = Metric.objects.filter(tenant=tenant)
    if form["search"]:
        rows = rows.filter(name__startswith=form["search"])
    if pager.after:
        rows = rows.filter(name__gt=pager.after)
    found = list(rows.order_by("name")[: PAGE_ROWS + 1])
    context = {
        "title": "Metrics",
        "form": form,
        "pager": pager,
        "rows": pager.cut(found, lambda row: row.name),
        "window": tenant.lateness_window_hours,
    }
    return render(request, "counters/metrics.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_page()
def metric(request: Any, name: str) -> HttpResponse:
    """One metric's settings; what is counted can change until usage was billed by it."""
    operator = request.operator
    if text.metric_problem(name):
        raise Http404
    found = Metric.objects.filter(tenant=operator.tenant, name=name).first()
    if found is None:
        raise Http404
    problem = None
    if request.method == "POST":
        if not operator.is_maintainer:
            raise Forbidden("Metrics are configured by maintainers and owners.")
        try:
            configure_metric(
                tenant_id=operator.tenant.pk,
                name=found.name,
                settings=_settings(request),
                actor=operator.actor,
                now=clock.now(),
            )
        except ProblemError as refused:
            problem = refused
        else:
            messages.success(request, f"{found.name} is configured.")
            return redirect("ops:metric", name=found.name)
    context = {
        "title": found.name,
        "metric": found,
        "given": request.POST if problem else None,
        "problem": problem,
        "aggregations": Metric.Aggregation.choices,
        "chosen": request.POST.get("aggregation") if problem else found.aggregation,
    }
    status = problem.status if problem else 200
    return render(request, "counters/metric.html", context, status=status)


def _settings(request: Any) -> MetricSettings:
    given = {name: posted.plain(request, name, chars_max=limit) for name, limit in _LIMITS.items()}
    hours = str(request.POST.get("latenessWindowHours", "")).strip()
    if hours and not (hours.isascii() and hours.isdigit() and int(hours) <= LATENESS_HOURS_MAX):
        raise invalid("latenessWindowHours", f"must be a whole number up to {LATENESS_HOURS_MAX}")
    return MetricSettings(
        aggregation=request.POST.get("aggregation") or None,
        unique_field=given["uniqueField"] or None,
        unit=given["unit"],
        description=given["description"],
        lateness_window_hours=int(hours) if hours else None,
        clears_lateness_window=not hours,
    )


@require_GET
@operator_page()
def inbox(request: Any) -> HttpResponse:
    """Metrics that nobody configured, and events that were refused under a used key."""
    tenant = request.operator.tenant
    pager = Pager(request, tenant.key, "conflicts", {})
    conflicts = EventConflict.objects.filter(tenant=tenant, resolved_at__isnull=True)
    if pager.after:
        conflicts = conflicts.filter(pk__lt=pager.after)
    unmapped = Metric.objects.filter(tenant=tenant).exclude(price_mappings__active=True)
    context = {
        "title": "Inbox",
        "pager": pager,
        "unconfigured": list(unmapped.order_by("configured", "name")[:PAGE_ROWS]),
        "conflicts": pager.cut(
            list(conflicts.order_by("-pk")[: PAGE_ROWS + 1]), lambda row: row.pk
        ),
    }
    return render(request, "counters/inbox.html", context)


@require_POST
@operator_page("maintainer")
def resolve_conflict(request: Any, conflict_id: int) -> HttpResponse:
    """Take a conflict off the inbox."""
    note = posted.plain(request, "note", chars_max=500)
    resolve(
        tenant_id=request.operator.tenant.pk,
        conflict_id=conflict_id,
        note=note,
        actor=request.operator.actor,
        now=clock.now(),
    )
    messages.success(request, "Marked as looked at. The first event stands.")
    return back(request, reverse("ops:inbox"))
