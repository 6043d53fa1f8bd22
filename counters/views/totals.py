"""Where a number comes from: a total down to its batches, an event up to its counter."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from counters.models import Counter
from counters.selectors import composition, current_usage, period_of, period_state
from counters.selectors.usage import counter_total
from counters.totals import ADDITIVE
from ledger.models import Event, Metric, PendingBatch
from stripemeter.lib import clock, text
from stripemeter.lib.instants import InvalidInstant, parse_instant, rfc3339
from stripemeter.lib.pages import PAGE_ROWS, Pager
from stripemeter.lib.panels import render_panel
from stripemeter.tenancy.operators import operator_page


def _instant(written: str, now: datetime) -> datetime:
    try:
        return parse_instant(written) if written else now
    except InvalidInstant:
        return now


def _series(request: Any, now: datetime) -> composition.Series:
    """The series that the address names. Raises Http404."""
    tenant = request.operator.tenant
    ref, name = request.GET.get("ref", ""), request.GET.get("metric", "")
    if text.reference_problem(ref) or text.metric_problem(name):
        raise Http404
    metric = Metric.objects.filter(tenant=tenant, name=name).first()
    if metric is None:
        raise Http404
    instant = _instant(request.GET.get("at", ""), now)
    period = period_of(tenant_id=tenant.pk, customer_ref=ref, instant=instant)
    return composition.Series(tenant.pk, metric, ref, period)


@require_GET
@operator_page()
def total(request: Any) -> HttpResponse:
    """A total, and every batch and correction that makes it."""
    now = clock.now()
    series = _series(request, now)
    place = {
        "ref": series.customer_ref,
        "metric": series.metric.name,
        "at": rfc3339(series.period.start),
    }
    pager = Pager(request, request.operator.tenant.key, "total", place)
    usage = current_usage(
        tenant_id=series.tenant_id,
        customer_ref=series.customer_ref,
        period=series.period,
        metric_id=series.metric.pk,
    )
    after = (parse_instant(pager.after[0]), int(pager.after[1])) if pager.after else None
    whole, rows = composition.batches_of(series, limit=PAGE_ROWS + 1, after=after)
    aggregation = series.metric.aggregation
    found = usage[0] if usage else None
    shown = pager.cut(rows, lambda row: [rfc3339(row.recorded_at), str(row.batch_id)])
    context = {
        "title": f"{series.metric.name} of {series.customer_ref}",
        "series": series,
        "at": place["at"],
        "pager": pager,
        "usage": found,
        "state": period_state(
            tenant_id=series.tenant_id,
            customer_ref=series.customer_ref,
            period_start=series.period.start,
        ),
        "rows": [(row, row.share(aggregation)) for row in shown],
        "whole": whole,
        "whole_share": whole.share(aggregation),
        "adds_up": found is not None
        and aggregation in ADDITIVE
        and whole.share(aggregation) == found.folded,
        "is_additive": aggregation in ADDITIVE,
        "corrections": [
            (row, composition.is_counted(row))
            for row in composition.corrections_of(series, limit=PAGE_ROWS)
        ],
    }
    return render(request, "counters/total.html", context)


@require_GET
@operator_page()
def event_counter(request: Any, key: UUID) -> HttpResponse:
    """The part of an event's story that the counters know: where it counts."""
    tenant_id = request.operator.tenant.pk
    event = Event.objects.filter(tenant_id=tenant_id, key=key).first()
    if event is None:
        raise Http404
    place = composition.place_of(event)
    counter = Counter.objects.filter(
        tenant_id=tenant_id,
        metric_id=event.metric_id,
        customer_ref=event.customer_ref,
        period_start=place.period.start,
    ).first()
    context = {
        "place": place,
        "pending": PendingBatch.objects.filter(batch_id=event.batch_id).exists(),
        "at": rfc3339(event.ts),
        "counter": counter,
        "total": counter_total(counter, place.metric.aggregation) if counter else None,
        "state": period_state(
            tenant_id=tenant_id, customer_ref=event.customer_ref, period_start=place.period.start
        ),
    }
    return render_panel(request, "counters/_event_counter.html", context)
