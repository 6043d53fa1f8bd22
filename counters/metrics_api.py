"""``/v1/metrics``: the registry of what a tenant counts, unmapped names included."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from counters.services.metrics import MetricSettings, configure_metric, create_metric, shown
from ledger.models import Metric
from stripemeter.lib import clock
from stripemeter.lib.drf import MetricField, StrictSerializer, TextField, WholeField, query_text
from stripemeter.lib.errors import NotFound, invalid
from stripemeter.tenancy.api_base import TenantView

#: A tenant has dozens of metrics; a list longer than this is a mistake of the sender.
LISTED_MAX = 1_000


class MetricOutput(serializers.Serializer[Any]):
    """A metric. ``configured`` is false for a name that only events have given so far."""

    name = serializers.CharField()
    aggregation = serializers.ChoiceField(choices=Metric.Aggregation.choices)
    uniqueField = serializers.CharField()
    unit = serializers.CharField()
    description = serializers.CharField()
    latenessWindowHours = serializers.IntegerField(allow_null=True)
    configured = serializers.BooleanField()


class MetricListOutput(serializers.Serializer[Any]):
    """The tenant's metrics by name."""

    metrics = MetricOutput(many=True)


class _Settings(StrictSerializer):
    tenantId = TextField(required=False)
    aggregation = serializers.ChoiceField(choices=Metric.Aggregation.choices, required=False)
    uniqueField = TextField(max_length=110, required=False)
    unit = TextField(max_length=40, required=False)
    description = TextField(max_length=500, required=False, allow_blank=True)
    latenessWindowHours = WholeField(min_value=0, max_value=24 * 34, required=False)


class MetricCreateInput(_Settings):
    """A metric to be."""

    name = MetricField()


class MetricUpdateInput(_Settings):
    """Settings to change; what is absent stays, a window of null gives way to the tenant's."""

    latenessWindowHours = WholeField(
        min_value=0, max_value=24 * 34, required=False, allow_null=True
    )


def _settings(data: dict[str, Any]) -> MetricSettings:
    return MetricSettings(
        aggregation=data.get("aggregation"),
        unique_field=data.get("uniqueField"),
        unit=data.get("unit"),
        description=data.get("description"),
        lateness_window_hours=data.get("latenessWindowHours"),
        clears_lateness_window=data.get("latenessWindowHours", 0) is None,
    )


class MetricsView(TenantView):
    """The registry."""

    scope_area = "mappings"

    @extend_schema(
        operation_id="listMetrics",
        parameters=[
            OpenApiParameter("tenantId", str),
            OpenApiParameter("configured", bool, description="only configured, or only others"),
        ],
        responses=MetricListOutput,
        tags=["Metrics"],
    )
    def get(self, request: Request) -> Response:
        """The tenant's metrics; ``configured=false`` lists names nobody has configured."""
        self.check_tenant()
        metrics = Metric.objects.filter(tenant_id=self.principal.tenant_id).order_by("name")
        wanted = query_text(request, "configured")
        if wanted is not None:
            if wanted not in {"true", "false"}:
                raise invalid("configured", "must be true or false")
            metrics = metrics.filter(configured=wanted == "true")
        return Response({"metrics": [shown(metric) for metric in metrics[:LISTED_MAX]]})

    @extend_schema(
        operation_id="createMetric",
        request=MetricCreateInput,
        responses={201: MetricOutput},
        tags=["Metrics"],
    )
    def post(self, request: Request) -> Response:
        """Configure a new metric, or one that only events have named so far."""
        self.check_tenant(request.data)
        body = MetricCreateInput(data=request.data)
        body.is_valid(raise_exception=True)
        metric = create_metric(
            tenant_id=self.principal.tenant_id,
            name=body.validated_data["name"],
            settings=_settings(body.validated_data),
            actor=self.principal.actor,
            now=clock.now(),
        )
        return Response(shown(metric), status=201)


class MetricView(TenantView):
    """One metric, by name."""

    scope_area = "mappings"

    @extend_schema(operation_id="getMetric", responses=MetricOutput, tags=["Metrics"])
    def get(self, request: Request, name: str) -> Response:
        """The metric."""
        self.check_tenant()
        metric = Metric.objects.filter(tenant_id=self.principal.tenant_id, name=name).first()
        if metric is None:
            raise NotFound(f"No metric {name}")
        return Response(shown(metric))

    @extend_schema(
        operation_id="updateMetric",
        request=MetricUpdateInput,
        responses=MetricOutput,
        tags=["Metrics"],
    )
    def put(self, request: Request, name: str) -> Response:
        """Change settings; another aggregation rebuilds the counters from the ledger."""
        self.check_tenant(request.data)
        body = MetricUpdateInput(data=request.data)
        body.is_valid(raise_exception=True)
        metric = configure_metric(
            tenant_id=self.principal.tenant_id,
            name=name,
            settings=_settings(body.validated_data),
            actor=self.principal.actor,
            now=clock.now(),
        )
        return Response(shown(metric))
