"""Exports for finance: ask, watch, download."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_GET, require_POST

from reconciliation.exports.writers import FORMATS
from reconciliation.models import Export
from reconciliation.selectors import reports
from reconciliation.services import exports as services
from reconciliation.tasks import wake
from stripemeter.lib import clock
from stripemeter.lib.errors import invalid
from stripemeter.lib.instants import InvalidInstant
from stripemeter.lib.pages import PAGE_ROWS
from stripemeter.lib.periods import utc_month
from stripemeter.tenancy.operators import operator_page

UNDER_WAY = frozenset({Export.Status.QUEUED, Export.Status.RUNNING})


@require_GET
@operator_page()
def exports(request: Any) -> HttpResponse:
    """The newest exports, and the form for a new one."""
    found = Export.objects.filter(tenant_id=request.operator.tenant.pk)
    rows = list(found.order_by("-requested_at")[:PAGE_ROWS])
    context = {
        "title": "Exports",
        "rows": rows,
        "formats": FORMATS,
        "month": f"{utc_month(clock.now()).start:%Y-%m}",
    }
    return render(request, "reconciliation/exports.html", context)


@require_POST
@operator_page()
def request_export(request: Any) -> HttpResponse:
    """Queue an export of a month; it reads only, so a viewer may ask for it."""
    try:
        period = reports.month_of(str(request.POST.get("period", "")))
    except InvalidInstant as error:
        raise invalid("period", "must be a month like 2026-01", code="invalid_period") from error
    made = services.request_export(
        tenant_id=request.operator.tenant.pk,
        period=period,
        file_format=str(request.POST.get("format", "")),
        actor=request.operator.actor,
        now=clock.now(),
    )
    wake()
    messages.success(request, "Queued.")
    return HttpResponseRedirect(reverse("ops:export", args=[made.pk]))


@require_GET
@operator_page()
def export(request: Any, export_id: UUID) -> HttpResponse:
    """One export: progress while it is written, then links and the manifest.

    An htmx request gets the part that changes.
    """
    found = Export.objects.filter(tenant_id=request.operator.tenant.pk, pk=export_id).first()
    if found is None:
        raise Http404
    manifest = found.manifest if found.status == Export.Status.DONE else None
    done = found.rows_written * 100 // found.rows_expected if found.rows_expected else 0
    context = {
        "title": f"{found.format.upper()} export of {found.period_start:%B %Y}",
        "export": found,
        "under_way": found.status in UNDER_WAY,
        "percent": min(done, 100),
        "manifest": manifest,
        "as_of": parse_datetime(manifest["asOf"]) if manifest else None,
        "files": [
            {**file, "token": services.link_token(found, file["name"])}
            for file in (manifest or {}).get("files", [])
        ],
        "link_minutes": services.LINK_SECONDS // 60,
    }
    fragment = request.headers.get("HX-Request") == "true"
    name = "reconciliation/_export.html" if fragment else "reconciliation/export.html"
    return render(request, name, context)
