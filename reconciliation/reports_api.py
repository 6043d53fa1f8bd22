"""``/v1/reconciliation/summary`` (both documented forms) and ``/{period}``."""

from collections.abc import Iterator
from typing import Any

from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from counters.selectors.usage import metric_named
from reconciliation.runs_api import period_of
from reconciliation.selectors import report_sums, reports
from reconciliation.selectors.report_sums import Summary, Sums
from reconciliation.selectors.reports import Filter, Row
from stripemeter.lib import clock, cursors
from stripemeter.lib.cells import Cell, csv_line
from stripemeter.lib.drf import query_choice, query_int, query_text
from stripemeter.lib.errors import invalid
from stripemeter.lib.instants import rfc3339
from stripemeter.lib.periods import Period, utc_month
from stripemeter.lib.text import metric_problem, reference_problem
from stripemeter.tenancy.api_base import TenantView

FORMATS = ("json", "csv")
MODES = ("live", "test")
SUMMARY_HEADER = "metric,local,stripe,drift_abs,drift_pct,items"
PERIOD_HEADER = "subscription_item_id,period,local,stripe,drift_abs,drift_pct,status"
MONTHS_MAX = 120
CUSTOMERS_SHOWN_MAX = 1_000
LIMIT_DEFAULT, LIMIT_MAX = 1_000, 1_000
_TENANT = OpenApiParameter("tenantId", str, required=True)
_FORMAT = OpenApiParameter("format", str, enum=list(FORMATS))
_MODE = OpenApiParameter("mode", str, enum=list(MODES))


def csv_answer(lines: Iterator[str], name: str) -> HttpResponseBase:
    """A streamed CSV attachment."""
    response = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
    safe = "".join(char if char.isalnum() or char in "-_." else "_" for char in name)
    response["Content-Disposition"] = f'attachment; filename="{safe}"'
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "no-store"
    return response


class SummaryView(TenantView):
    """``GET /v1/reconciliation/summary``: by months, or for one metric."""

    scope_area = "reconciliation"

    @extend_schema(
        operation_id="getReconciliationSummary",
        parameters=[
            _TENANT,
            OpenApiParameter("periodStart", str),
            OpenApiParameter("periodEnd", str),
            OpenApiParameter("metric", str),
            OpenApiParameter("customerRef", str),
            OpenApiParameter("period", str),
            _FORMAT,
            _MODE,
        ],
        responses={200: dict},
        tags=["Reconciliation"],
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Sums of the newest lines; ``metric`` chooses the form for one metric."""
        self.check_tenant(required=True)
        file_format = query_choice(request, "format", "json", FORMATS)
        mode = query_choice(request, "mode", "live", MODES)
        if query_text(request, "metric") is not None:
            return self._of_metric(request, file_format, mode)
        return self._of_months(request, file_format, mode)

    def _of_months(self, request: Request, file_format: str, mode: str) -> HttpResponseBase:
        first = self._month(request, "periodStart")
        last = self._month(request, "periodEnd")
        if last.end < first.end:
            raise invalid("periodEnd", "is before periodStart", code="invalid_period")
        if (last.end - first.start).days > MONTHS_MAX * 31:
            raise invalid("periodEnd", f"may be at most {MONTHS_MAX} months later")
        whole = Period(first.start, last.end)
        found = report_sums.summary(Filter(self.principal.tenant_id, whole, mode))
        named = {
            "periodStart": query_text(request, "periodStart"),
            "periodEnd": query_text(request, "periodEnd"),
        }
        if file_format == "csv":
            name = f"reconciliation_{self.principal.tenant_key}_{named['periodStart']}.csv"
            return csv_answer(_summary_lines(found), name)
        per_metric = [{"metric": name, **_sums(sums)} for name, sums in found.per_metric.items()]
        overall = _sums(found.overall) | {"metrics": len(found.per_metric)}
        return Response({**named, "perMetric": per_metric, "overall": overall})

    def _month(self, request: Request, name: str) -> Period:
        period = period_of(query_text(request, name), name)
        if period is None:
            raise invalid(name, "is required (or give metric)", code="required")
        return period

    def _of_metric(self, request: Request, file_format: str, mode: str) -> HttpResponseBase:
        name = query_text(request, "metric") or ""
        problem = metric_problem(name)
        if problem:
            raise invalid("metric", problem, code="invalid_metric")
        customer = query_text(request, "customerRef")
        if customer is not None:
            wrong = reference_problem(customer)
            if wrong:
                raise invalid("customerRef", wrong, code="invalid_reference")
        period = period_of(query_text(request, "period")) or utc_month(clock.now())
        tenant_id = self.principal.tenant_id
        metric = metric_named(tenant_id=tenant_id, name=name)
        filters = Filter(tenant_id, period, mode, metric.pk if metric else 0, customer)
        if file_format == "csv":
            found = report_sums.summary(filters)
            return csv_answer(
                _summary_lines(found), f"reconciliation_{name}_{period.start:%Y-%m}.csv"
            )
        return Response(self._metric_body(name, filters))

    def _metric_body(self, name: str, filters: Filter) -> dict[str, Any]:
        found = report_sums.metric_sums(filters, customers_max=CUSTOMERS_SHOWN_MAX)
        counters = {ref: counter for ref, (counter, _) in found.customers.items()}
        ledgers = {ref: ledger for ref, (_, ledger) in found.customers.items()}
        processed, newest, late = reports.events_of(filters)
        return {
            "tenantId": self.principal.tenant_key,
            "metric": name,
            **({"customerRef": filters.customer_ref} if filters.customer_ref else {}),
            "period": {"start": rfc3339(filters.period.start), "end": rfc3339(filters.period.end)},
            "reconciliation": {
                "localTotal": found.local,
                "stripeTotal": found.stripe,
                "drift": found.drift,
                "driftPercentage": reports.percent(found.drift, found.local, found.stripe),
                "status": found.status,
                "settlingItems": found.settling,
                "lastChecked": rfc3339(found.checked_at) if found.checked_at else None,
            },
            "counters": {
                "beforeReplay": {"total": found.local, "byCustomer": counters},
                "afterReplay": {"total": found.ledger, "byCustomer": ledgers},
            },
            "events": {
                "totalProcessed": processed,
                "lateEvents": late,
                "duplicatesFiltered": None,
                "lastEventTime": rfc3339(newest) if newest else None,
            },
        }


def _sums(sums: Sums) -> dict[str, Any]:
    return {
        "local": sums.local,
        "stripe": sums.stripe,
        "drift_abs": sums.drift,
        "drift_pct": sums.percent,
        "items": sums.items,
    }


def _summary_lines(found: Summary) -> Iterator[str]:
    yield SUMMARY_HEADER + "\r\n"
    for name, sums in [*found.per_metric.items(), ("TOTAL", found.overall)]:
        cells: list[Cell] = [name, *_sums(sums).values()]
        yield csv_line(cells)


class PeriodView(TenantView):
    """``GET /v1/reconciliation/{period}``: the newest line of every cursor of a month."""

    scope_area = "reconciliation"

    @extend_schema(
        operation_id="getReconciliationPeriod",
        parameters=[
            _TENANT,
            _FORMAT,
            _MODE,
            OpenApiParameter("limit", int),
            OpenApiParameter("cursor", str),
        ],
        responses={200: dict},
        tags=["Reconciliation"],
    )
    def get(self, request: Request, period: str) -> HttpResponseBase:
        """Lines as JSON by pages, or all of them as CSV."""
        self.check_tenant(required=True)
        month = period_of(period)
        assert month is not None
        mode = query_choice(request, "mode", "live", MODES)
        filters = Filter(self.principal.tenant_id, month, mode)
        if query_choice(request, "format", "json", FORMATS) == "csv":
            name = f"reconciliation_{self.principal.tenant_key}_{period}.csv"
            return csv_answer(_period_lines(filters), name)
        limit = query_int(request, "limit", LIMIT_DEFAULT, low=1, high=LIMIT_MAX)
        bound = {"period": period, "mode": mode}
        page = reports.rows(filters, after=self._after(request, bound), limit=limit)
        body = self._body(period, page, filters)
        body["nextCursor"] = self._cursor(page, bound) if len(page) == limit else None
        return Response(body)

    def _after(self, request: Request, bound: dict[str, Any]) -> Any:
        raw = query_text(request, "cursor")
        if not raw:
            return None
        position = cursors.decode(
            raw, tenant_key=self.principal.tenant_key, listing="reports", filters=bound
        )
        return reports.Position.read(position)

    def _cursor(self, page: list[Row], bound: dict[str, Any]) -> str:
        position = reports.Position.of(page[-1]).written()
        return cursors.encode(
            position, tenant_key=self.principal.tenant_key, listing="reports", filters=bound
        )

    def _body(self, period: str, page: list[Row], filters: Filter) -> dict[str, Any]:
        tenant = self.principal.tenant_key
        counts = report_sums.counts(filters)
        return {
            "period": period,
            "reports": [_report(row, tenant) for row in page],
            "suggestedAdjustments": [
                {
                    "id": each.pk,
                    "tenantId": tenant,
                    "metric": each.metric.name,
                    "customerRef": each.customer_ref,
                    "periodStart": rfc3339(each.period_start),
                    "delta": each.delta,
                    "reason": each.reason,
                    "actor": each.actor,
                    "createdAt": rfc3339(each.created_at),
                }
                for each in reports.pending_adjustments(filters.tenant_id, filters.period)
            ],
            "summary": counts,
        }


def _report(row: Row, tenant_key: str) -> dict[str, Any]:
    return {
        "id": row.id,
        "tenantId": tenant_key,
        "subscriptionItemId": row.subscription_item or None,
        "mappingId": row.mapping_id,
        "metric": row.metric,
        "customerRef": row.customer_ref,
        "mode": row.mode,
        "periodStart": rfc3339(row.period_start),
        "localTotal": row.local_total,
        "stripeTotal": row.stripe_total,
        "diff": row.diff,
        "status": row.status,
        "verdict": row.verdict,
        "causes": row.causes,
        "createdAt": rfc3339(row.checked_at),
    }


def _period_lines(filters: Filter) -> Iterator[str]:
    yield PERIOD_HEADER + "\r\n"
    for row in reports.all_rows(filters):
        drift = row.diff.copy_abs()
        yield csv_line(
            [
                row.subscription_item,
                f"{row.period_start:%Y-%m}",
                row.local_total,
                row.stripe_total,
                drift,
                reports.percent(drift, row.local_total, row.stripe_total),
                row.status,
            ]
        )
