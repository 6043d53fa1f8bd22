"""Customers: the list, and one customer's period with everything that makes its bill."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from billing import dashboard, selectors
from billing.models import PriceMapping
from billing.outlook import LineOutlook, outlook
from billing.pricing.numbers import major
from billing.projection import project
from counters.models import Counter
from counters.selectors import MetricUsage, current_usage, period_of
from counters.selectors.adjustments import adjustments
from counters.selectors.history import usage_history
from counters.selectors.periods import periods_between
from ledger import selectors as ledger
from ledger.models import Metric
from stripemeter.lib import clock, text
from stripemeter.lib.charts import bars
from stripemeter.lib.decimals import plain
from stripemeter.lib.instants import InvalidInstant, parse_instant, rfc3339
from stripemeter.lib.pages import PAGE_ROWS, Pager, filters_of
from stripemeter.lib.panels import render_panel
from stripemeter.lib.periods import Period
from stripemeter.tenancy.operators import operator_page

SHOWN = 10
ZERO = Decimal(0)
HISTORY = timedelta(days=366)


@require_GET
@operator_page()
def customers(request: Any) -> HttpResponse:
    """Customers with usage, by reference."""
    tenant = request.operator.tenant
    form = filters_of(request, "search")
    pager = Pager(request, tenant.key, "customers", form)
    rows = dashboard.customers(
        tenant_id=tenant.pk,
        search=form["search"],
        after=pager.after,
        now=clock.now(),
        limit=PAGE_ROWS + 1,
    )
    context = {
        "title": "Customers",
        "form": form,
        "pager": pager,
        "rows": pager.cut(rows, lambda row: row.customer_ref),
    }
    return render(request, "billing/customers.html", context)


@require_GET
@operator_page()
def customer(request: Any) -> HttpResponse:
    """One customer's period; bill, metrics and findings are panels that load themselves."""
    tenant = request.operator.tenant
    ref, period, now = _about(request)
    usage = current_usage(tenant_id=tenant.pk, customer_ref=ref, period=period)
    if not usage and not _has_counters(tenant.pk, ref):
        raise Http404
    at = rfc3339(period.start)
    context = {
        "title": ref,
        "ref": ref,
        "period": period,
        "is_running": period.start <= now < period.end,
        "bill_url": _panel_url("customer-bill", ref=ref, at=at),
        "metrics": [
            (each, _panel_url("customer-metric", ref=ref, metric=each.name, at=at))
            for each in usage
        ],
        "periods": reversed(
            periods_between(
                tenant_id=tenant.pk,
                customer_ref=ref,
                since=now - timedelta(days=150),
                until=now + timedelta(days=1),
            )[-6:]
        ),
        "links": selectors.customer_links(
            tenant_id=tenant.pk, customer_ref=ref, mode=None, after_id=0, limit=2
        ),
        "pushes": selectors.pushes(tenant_id=tenant.pk, customer_ref=ref, limit=SHOWN),
        "adjustments": adjustments(tenant_id=tenant.pk, customer_ref=ref, limit=SHOWN),
        "events": ledger.list_events(
            ledger.EventFilter(
                tenant_id=tenant.pk, customer_ref=ref, start=period.start,
                end=period.end - timedelta(microseconds=1),
            ),
            limit=SHOWN,
        ),
    }  # fmt: skip
    return render(request, "billing/customer.html", context)


@require_GET
@operator_page()
def customer_bill(request: Any) -> HttpResponse:
    """The bill of a customer's period so far, and what it will probably be."""
    tenant_id = request.operator.tenant.pk
    ref, period, now = _about(request)
    projection = project(tenant_id=tenant_id, customer_ref=ref, period=period)
    is_running = period.start <= now < period.end
    context = {
        "is_running": is_running,
        "subtotals": [(code, projection.subtotal(code)) for code in projection.currencies],
        "expected": outlook(projection, tenant_id=tenant_id, now=now) if is_running else None,
    }
    return render_panel(request, "billing/_customer_bill.html", context)


@require_GET
@operator_page()
def customer_metric(request: Any) -> HttpResponse:
    """One metric of a customer's period: its number, charts, price and forecast."""
    tenant = request.operator.tenant
    ref, period, now = _about(request)
    metric = Metric.objects.filter(tenant=tenant, name=request.GET.get("metric", "")).first()
    if metric is None:
        raise Http404
    projection = project(tenant_id=tenant.pk, customer_ref=ref, period=period, metric_id=metric.pk)
    if not projection.usage:
        raise Http404
    is_running = period.start <= now < period.end
    expected = outlook(projection, tenant_id=tenant.pk, now=now).lines if is_running else []
    context = {
        "ref": ref,
        "at": rfc3339(period.start),
        "metric": metric,
        "card": _card(
            projection.usage[0], metric, next(iter(projection.lines), None),
            next(iter(expected), None), ref, period, now,
        ),
    }  # fmt: skip
    return render_panel(request, "billing/_customer_metric.html", context)


def _about(request: Any) -> tuple[str, Period, datetime]:
    """The customer and the period that the address names, and the moment."""
    ref = request.GET.get("ref", "")
    if text.reference_problem(ref):
        raise Http404
    now = clock.now()
    tenant_id = request.operator.tenant.pk
    period = period_of(tenant_id=tenant_id, customer_ref=ref, instant=_instant(request, now))
    return ref, period, now


def _panel_url(name: str, **query: str) -> str:
    return f"{reverse(f'ops:{name}')}?{urlencode(query)}"


def _instant(request: Any, now: datetime) -> datetime:
    """The instant the page is about: that of the link, or now."""
    try:
        return parse_instant(request.GET["at"]) if request.GET.get("at") else now
    except InvalidInstant:
        return now


def _has_counters(tenant_id: int, ref: str) -> bool:
    return Counter.objects.filter(tenant_id=tenant_id, customer_ref=ref).exists()


def _card(
    usage: MetricUsage,
    metric: Metric,
    line: Any,
    expected: LineOutlook | None,
    ref: str,
    period: Period,
    now: datetime,
) -> dict[str, Any]:
    """What the page shows of one metric."""
    card = {
        "usage": usage,
        "line": line,
        "expected": expected,
        "daily": _daily(metric, ref, period, now),
        "monthly": _monthly(metric, ref, now),
        "next_cost": None,
        "mapping_url_id": None,
    }
    if line is not None:
        mapping: PriceMapping = line.mapping
        card["mapping_url_id"] = mapping.pk
        if line.next_unit is not None:
            card["next_cost"] = major(line.next_unit.marginal, line.price.exponent)
    return card


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


def _daily(metric: Metric, ref: str, period: Period, now: datetime) -> Any:
    """Bars per UTC day of the period, up to 62 of them."""
    first = period.start.date()
    last = (period.end - timedelta(microseconds=1)).date()
    first = max(first, last - timedelta(days=61))
    points = usage_history(
        tenant_id=metric.tenant_id, metric=metric, customer_ref=ref,
        since=_midnight(first), until=_midnight(last + timedelta(days=1)), interval="day",
    )  # fmt: skip
    by_day = {point.ts.date(): point.value for point in points}
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return bars(
        [
            (f"{day}: {plain(by_day.get(day, ZERO))}", max(by_day.get(day, ZERO), ZERO))
            for day in days
        ],
        label=f"{metric.name} per day",
        below=_scale(f"{first:%-d %b}", "day", [by_day.get(day, ZERO) for day in days],
                     f"{last:%-d %b}"),
    )  # fmt: skip


def _scale(begin: str, each: str, values: list[Decimal], end: str) -> tuple[str, str, str]:
    """What stands under bars: where they begin, what the highest is, where they end."""
    return begin, f"per {each}, highest {max(values, default=ZERO):,f}", end


def _monthly(metric: Metric, ref: str, now: datetime) -> Any:
    """Bars per UTC month of the last year."""
    since = _midnight((now - HISTORY).date().replace(day=1))
    points = usage_history(
        tenant_id=metric.tenant_id, metric=metric, customer_ref=ref,
        since=since, until=_midnight(now.date() + timedelta(days=1)), interval="month",
    )  # fmt: skip
    by_month = {(point.ts.year, point.ts.month): point.value for point in points}
    months = [
        (since.year + (since.month - 1 + number) // 12, (since.month - 1 + number) % 12 + 1)
        for number in range(13)
    ]
    return bars(
        [
            (f"{year}-{month:02}: {plain(by_month.get((year, month), ZERO))}",
             max(by_month.get((year, month), ZERO), ZERO))
            for year, month in months
        ],
        label=f"{metric.name} per month, last year",
        below=_scale(f"{since:%b %Y}", "month", list(by_month.values()), f"{now:%b %Y}"),
    )  # fmt: skip
