"""Operator pages of the ledger: the ingest panel and the events explorer."""

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from ledger import refusals, selectors
from ledger.models import Metric
from ledger.wire import SOURCES
from stripemeter.lib import clock, cursors
from stripemeter.lib.charts import bars
from stripemeter.lib.errors import InvalidRequest
from stripemeter.lib.instants import InvalidInstant, parse_field, parse_instant, rfc3339
from stripemeter.lib.panels import SUMS_SECONDS, remembered, render_panel
from stripemeter.tenancy.operators import operator_page

PAGE_ROWS = 50


@require_GET
@operator_page()
def ingest_panel(request: Any) -> HttpResponse:
    """Events stored in the last hour, and what needs a look."""
    now = clock.now()
    tenant_id = request.operator.tenant.pk
    minutes, at = remembered(
        f"panel-ingest:{tenant_id}",
        SUMS_SECONDS,
        lambda: selectors.arrivals_per_minute(tenant_id=tenant_id, since=now - timedelta(hours=1)),
    )
    first = (now - timedelta(minutes=59)).replace(second=0, microsecond=0)
    series = [first + timedelta(minutes=minute) for minute in range(60)]
    chart = bars(
        [(f"{at:%H:%M} UTC: {minutes.get(at, 0)}", minutes.get(at, 0)) for at in series],
        label="Events stored per minute, last hour",
        below=(f"{series[0]:%H:%M}", f"per minute, highest {max(minutes.values(), default=0):,}",
               f"{series[-1]:%H:%M} UTC"),
    )  # fmt: skip
    context = {
        "hour": sum(minutes.values()),
        "last_minute": minutes.get(series[-2], 0),
        "chart": chart,
        "refused": refusals.last_hour(tenant_id=tenant_id, now=now),
        "conflicts": selectors.open_conflicts(tenant_id),
        "unconfigured": Metric.objects.filter(tenant_id=tenant_id, configured=False).count(),
    }
    return render_panel(request, "ledger/_ingest_panel.html", context, as_of=at)


@require_GET
@operator_page()
def events(request: Any) -> HttpResponse:
    """The events explorer: filters, newest first, keyset pages."""
    tenant = request.operator.tenant
    form = {
        name: request.GET.get(name, "").strip()
        for name in ("metric", "customerRef", "source", "from", "to", "batch")
    }
    wanted, problem = _wanted(tenant.pk, form)
    after = None
    try:
        if request.GET.get("cursor"):
            ts, key = cursors.decode(
                request.GET["cursor"], tenant_key=tenant.key, listing="ops", filters=form
            )
            after = (parse_instant(ts), UUID(key))
    except InvalidRequest:
        problem = "This page link has expired; the list starts anew."
    found = selectors.list_events(wanted, limit=PAGE_ROWS + 1, after=after)
    following = ""
    given = {name: value for name, value in form.items() if value}
    if len(found) > PAGE_ROWS:
        found = found[:PAGE_ROWS]
        position = [rfc3339(found[-1].ts), str(found[-1].key)]
        cursor = cursors.encode(position, tenant_key=tenant.key, listing="ops", filters=form)
        following = urlencode({**given, "cursor": cursor})
    context = {
        "title": "Events",
        "form": form,
        "problem": problem,
        "events": found,
        "given": urlencode(given),
        "following": following,
        "first_page": after is None,
        "filtered": bool(given),
        "metrics": sorted(selectors.metric_names(tenant.pk).values()),
        "sources": sorted(SOURCES),
    }
    template = "ledger/_event_table.html" if request.htmx else "ledger/events.html"
    return render(request, template, context)


def _wanted(tenant_id: int, form: dict[str, str]) -> tuple[selectors.EventFilter, str | None]:
    problem = None
    times: dict[str, datetime | None] = {}
    for name in ("from", "to"):
        times[name] = None
        if form[name]:
            try:
                times[name] = parse_field(form[name])
            except InvalidInstant as error:
                problem = f"{name.capitalize()}: {error}"
    metric_id = None
    if form["metric"]:
        metric = Metric.objects.filter(tenant_id=tenant_id, name=form["metric"]).first()
        metric_id = metric.pk if metric else 0
    wanted = selectors.EventFilter(
        tenant_id=tenant_id,
        metric_id=metric_id,
        customer_ref=form["customerRef"] or None,
        source=form["source"] or None,
        start=times["from"],
        end=times["to"],
        batch_id=_batch(form["batch"]),
    )
    return wanted, problem


def _batch(written: str) -> int | None:
    """The batch of that number; one that cannot be finds nothing."""
    if not written:
        return None
    is_number = written.isascii() and written.isdigit() and len(written) <= 18
    return int(written) if is_number else -1


@require_GET
@operator_page()
def event(request: Any, key: UUID) -> HttpResponse:
    """One event's story: what happened, its batch, its counter, its pushes."""
    tenant = request.operator.tenant
    found = selectors.find_event(tenant_id=tenant.pk, key=key)
    if found is None:
        raise Http404
    context = {
        "title": "Event",
        "event": found,
        "batch_events": selectors.events_in_batch(tenant_id=tenant.pk, batch_id=found.batch_id),
        # The rest of the story belongs to other apps; each loads its own part.
        "panels": [
            {"id": name, "url": reverse(f"ops:{name}", args=[key])}
            for name in ("event-counter", "event-pushes")
        ],
        "conflicts": selectors.conflicts_of(tenant_id=tenant.pk, key=key),
    }
    return render(request, "ledger/event.html", context)
