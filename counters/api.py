"""Usage reads: current totals and history."""

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.http import HttpRequest, HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from counters import hooks, selectors
from counters.selectors.history import INTERVALS, Point, usage_history
from counters.selectors.usage import metric_named
from ledger.models import Metric
from stripemeter.lib import clock, instants
from stripemeter.lib.drf import query_choice, query_instant, query_text
from stripemeter.lib.errors import invalid
from stripemeter.lib.http import json_response, wants_decimals_as_text
from stripemeter.lib.instants import InvalidInstant, parse_duration, rfc3339
from stripemeter.lib.text import metric_problem, reference_problem
from stripemeter.tenancy.api_base import DirectView, TenantView


def customer_of(request: Request | HttpRequest, *, required: bool = True) -> str | None:
    """The ``customerRef`` of the query. Raises `InvalidRequest`."""
    value = query_text(request, "customerRef")
    if not value:
        if required:
            raise invalid("customerRef", "is required", code="required")
        return None
    problem = reference_problem(value)
    if problem:
        raise invalid("customerRef", problem, code="invalid_reference")
    return value


class FreshnessOutput(serializers.Serializer[Any]):
    """How current an answer is: reads include everything that ingest has acknowledged."""

    lastUpdate = serializers.DateTimeField(allow_null=True)
    staleness = serializers.IntegerField()
    asOf = serializers.DateTimeField()
    pendingEvents = serializers.IntegerField()


class MetricUsageOutput(serializers.Serializer[Any]):
    """One metric: ``current`` is what is billable, folded events plus adjustments."""

    name = serializers.CharField()
    current = serializers.DecimalField(max_digits=60, decimal_places=12)
    unit = serializers.CharField()
    aggregation = serializers.CharField()
    folded = serializers.DecimalField(max_digits=60, decimal_places=12)
    adjustments = serializers.DecimalField(max_digits=60, decimal_places=12)
    events = serializers.IntegerField()
    watermark = serializers.DateTimeField(allow_null=True)
    late = serializers.DictField(help_text="effect of late events: counted, and held for review")


class CurrentUsageOutput(serializers.Serializer[Any]):
    """A customer's usage in the running period."""

    customerRef = serializers.CharField()
    period = serializers.DictField()
    metrics = MetricUsageOutput(many=True)
    alerts = serializers.ListField(child=serializers.DictField())
    freshness = FreshnessOutput()


class CurrentUsageView(DirectView):
    """``GET /v1/usage/current``: exact at once; an unknown customer has no usage yet."""

    scope_area = "usage"
    direct_method = "GET"

    @extend_schema(
        operation_id="getCurrentUsage",
        parameters=[
            OpenApiParameter("tenantId", str, required=True),
            OpenApiParameter("customerRef", str, required=True),
        ],
        responses=CurrentUsageOutput,
        tags=["Usage"],
    )
    def get(self, request: Request) -> HttpResponse:
        """Totals per metric of the customer's running period."""
        return self.answer(request._request)

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Check what is asked for, read, and show."""
        self.check_tenant(required=True)
        customer = customer_of(request) or ""
        now = clock.now()
        tenant_id = self.principal.tenant_id
        period = selectors.period_of(tenant_id=tenant_id, customer_ref=customer, instant=now)
        usage = selectors.current_usage(tenant_id=tenant_id, customer_ref=customer, period=period)
        last_day = (period.end - timedelta(microseconds=1)).date()
        return json_response(
            {
                "customerRef": customer,
                "period": {
                    "start": period.start.date().isoformat(),
                    "end": last_day.isoformat(),
                    "startsAt": rfc3339(period.start),
                    "endsAt": rfc3339(period.end),
                },
                "metrics": [shown_usage(metric) for metric in usage],
                "alerts": hooks.alerts(tenant_id, customer, now),
                "freshness": freshness(usage, now=now),
            },
            decimals_as_text=wants_decimals_as_text(request),
        )


def shown_usage(usage: selectors.MetricUsage) -> dict[str, Any]:
    """One metric as the wire shows it."""
    return {
        "name": usage.name,
        "current": usage.total,
        "unit": usage.unit,
        "aggregation": usage.aggregation,
        "folded": usage.folded,
        "adjustments": usage.adjusted,
        "events": usage.totals.event_count,
        "watermark": usage.watermark and rfc3339(usage.watermark),
        "late": {"counted": usage.late_counted, "held": usage.late_held},
    }


def freshness(usage: list[selectors.MetricUsage], *, now: datetime) -> dict[str, Any]:
    """How current an answer made of ``usage`` is."""
    newest = max(
        (metric.last_recorded_at for metric in usage if metric.last_recorded_at), default=None
    )
    return {
        "lastUpdate": newest and rfc3339(newest),
        # Reads include what is stored and not yet folded: nothing acknowledged is missing.
        "staleness": 0,
        "asOf": rfc3339(now),
        "pendingEvents": sum(metric.pending_events for metric in usage),
    }


_HISTORY_PARAMETERS = [
    OpenApiParameter("tenantId", str, required=True),
    OpenApiParameter("metric", str, required=True),
    OpenApiParameter("customerRef", str, description="required with periodStart/periodEnd"),
    OpenApiParameter("periodStart", str, description="RFC 3339, included"),
    OpenApiParameter("periodEnd", str, description="RFC 3339, included"),
    OpenApiParameter("step", str, enum=["day", "month"], description="month if absent"),
    OpenApiParameter("since", str, description="RFC 3339 instant, or a duration like -P1D"),
    OpenApiParameter("until", str, description="RFC 3339 instant, or now"),
    OpenApiParameter("interval", str, enum=list(INTERVALS), description="day if absent"),
    OpenApiParameter("tz", str, description="IANA zone of the buckets; UTC if absent"),
]


class UsageHistoryOutput(serializers.Serializer[Any]):
    """Either documented form: ``usage`` for periodStart/periodEnd, ``series`` for since/until."""

    usage = serializers.ListField(child=serializers.DictField(), required=False)
    series = serializers.ListField(child=serializers.DictField(), required=False)
    totals = serializers.DictField(required=False)
    timeRange = serializers.DictField(required=False)


class UsageHistoryView(TenantView):
    """``GET /v1/usage/history`` in both documented forms."""

    scope_area = "usage"

    @extend_schema(
        operation_id="getUsageHistory",
        parameters=_HISTORY_PARAMETERS,
        responses=UsageHistoryOutput,
        tags=["Usage"],
    )
    def get(self, request: Request) -> Response:
        """Usage over time: one value per bucket, ascending."""
        self.check_tenant(required=True)
        name = query_text(request, "metric")
        problem = metric_problem(name)
        if problem:
            raise invalid("metric", problem, code="invalid_metric" if name else "required")
        metric = metric_named(tenant_id=self.principal.tenant_id, name=name or "")
        if "periodStart" in request.query_params or "periodEnd" in request.query_params:
            return self._by_period(request, metric)
        return self._by_range(request, metric, name or "")

    def _by_period(self, request: Request, metric: Metric | None) -> Response:
        customer = customer_of(request)
        start, end = query_instant(request, "periodStart"), query_instant(request, "periodEnd")
        if start is None or end is None:
            raise invalid("periodEnd" if start else "periodStart", "is required", code="required")
        step = query_choice(request, "step", "month", ("day", "month"))
        # Both ends are included on the wire; inside, ranges are half-open.
        points = self._points(metric, customer, start, end + timedelta(microseconds=1), step, "UTC")
        return Response({"usage": [_shown_point(point) for point in points]})

    def _by_range(self, request: Request, metric: Metric | None, name: str) -> Response:
        now = clock.now()
        customer = customer_of(request, required=False)
        since = _instant_or_duration(request, "since", now) or now - timedelta(days=30)
        until = _instant_or_duration(request, "until", now) or now
        interval = query_choice(
            request, "interval", query_text(request, "step") or "day", INTERVALS
        )
        zone = query_text(request, "tz") or "UTC"
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise invalid("tz", "must be an IANA time zone", code="invalid_zone") from error
        points = self._points(metric, customer, since, until, interval, zone)
        answer: dict[str, Any] = {
            "tenantId": self.principal.tenant_key,
            "metric": name,
            "timeRange": {
                "since": rfc3339(since),
                "until": rfc3339(until),
                "interval": interval,
                "tz": zone,
            },
            "series": [_shown_point(point) for point in points],
            "totals": {"value": _total(metric, points)},
        }
        if customer is not None:
            answer["customerRef"] = customer
        return Response(answer)

    def _points(
        self,
        metric: Metric | None,
        customer: str | None,
        since: datetime,
        until: datetime,
        interval: str,
        zone: str,
    ) -> list[Point]:
        if since >= until:
            raise invalid("until", "must lie after since")
        if metric is None:
            return []
        return usage_history(
            tenant_id=self.principal.tenant_id,
            metric=metric,
            customer_ref=customer,
            since=since,
            until=until,
            interval=interval,
            zone=zone,
        )


def _instant_or_duration(request: Request, name: str, now: datetime) -> datetime | None:
    raw = query_text(request, name)
    if not raw:
        return None
    if raw == "now":
        return now
    try:
        if "P" in raw[:2]:
            moment = now + parse_duration(raw)
            if moment > now:
                raise InvalidInstant("must not lie in the future: write -P1D")
            return moment
        return instants.parse_instant(raw)
    except InvalidInstant as error:
        raise invalid(name, str(error), code="invalid_instant") from error


def _shown_point(point: Point) -> dict[str, Any]:
    return {"ts": rfc3339(point.ts), "value": point.value}


def _total(metric: Metric | None, points: list[Point]) -> Any:
    """The range's total from its buckets; null for averages, which do not add up."""
    if metric is None or not points:
        return 0
    values = [point.value for point in points]
    if metric.aggregation in {"sum", "count", "unique"}:
        return sum(values)
    if metric.aggregation == "average":
        return None
    return {"max": max(values), "min": min(values), "last": values[-1]}[metric.aggregation]
