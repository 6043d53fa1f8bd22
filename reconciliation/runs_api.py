"""``/v1/reconciliation/run`` and ``/runs``: asking for a run and following it."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from counters.selectors.usage import metric_named
from reconciliation.models import Run
from reconciliation.selectors import reports
from reconciliation.services import runs
from reconciliation.tasks import wake
from stripemeter.lib import clock
from stripemeter.lib.drf import (
    InstantField,
    MetricField,
    ReferenceField,
    StrictSerializer,
    TextField,
    query_int,
)
from stripemeter.lib.errors import NotFound, invalid
from stripemeter.lib.instants import InvalidInstant
from stripemeter.lib.periods import Period
from stripemeter.tenancy.api_base import TenantView

LIMIT_DEFAULT, LIMIT_MAX = 20, 200


class RunInput(StrictSerializer):
    """What to compare; without more than the tenant: everything that is recent."""

    tenantId = TextField()
    metric = MetricField(required=False)
    customerRef = ReferenceField(required=False)
    period = TextField(required=False, max_length=10)


class QueuedOutput(serializers.Serializer[Any]):
    """The run to follow."""

    message = serializers.CharField()
    jobId = serializers.UUIDField()
    status = serializers.CharField()


class RunOutput(serializers.Serializer[Any]):
    """One run and its counts."""

    jobId = serializers.UUIDField(source="id")
    status = serializers.CharField()
    requestedBy = serializers.CharField(source="requested_by")
    requestedAt = InstantField(source="requested_at")
    startedAt = InstantField(source="started_at", allow_null=True)
    finishedAt = InstantField(source="finished_at", allow_null=True)
    cursors = serializers.IntegerField()
    parity = serializers.IntegerField()
    settling = serializers.IntegerField()
    drifting = serializers.IntegerField()
    skipped = serializers.IntegerField()
    stripeReads = serializers.IntegerField(source="stripe_reads")
    error = serializers.CharField()


class RunListOutput(serializers.Serializer[Any]):
    """The newest runs."""

    runs = RunOutput(many=True)


def period_of(text: str | None, name: str = "period") -> Period | None:
    """The month that ``text`` names. Raises `InvalidRequest`."""
    if not text:
        return None
    try:
        return reports.month_of(text)
    except InvalidInstant as error:
        raise invalid(name, "must be a month like 2026-01", code="invalid_period") from error


class RunView(TenantView):
    """``POST /v1/reconciliation/run``."""

    scope_area = "reconciliation"

    @extend_schema(
        operation_id="runReconciliation",
        request=RunInput,
        responses={202: QueuedOutput},
        tags=["Reconciliation"],
    )
    def post(self, request: Request) -> Response:
        """Queue a run of the key's tenant, or point at the one that is under way."""
        self.check_tenant(request.data, required=True)
        given = RunInput(data=request.data)
        given.is_valid(raise_exception=True)
        fields = given.validated_data
        metric_id = None
        if "metric" in fields:
            metric = metric_named(tenant_id=self.principal.tenant_id, name=fields["metric"])
            if metric is None:
                raise invalid("metric", "is not a metric of this tenant", code="unknown_metric")
            metric_id = metric.pk
        period = period_of(fields.get("period"))
        run, _ = runs.request_run(
            tenant_id=self.principal.tenant_id,
            actor=self.principal.actor,
            now=clock.now(),
            metric_id=metric_id,
            customer_ref=fields.get("customerRef"),
            period_from=period.start if period else None,
            period_to=period.end if period else None,
        )
        wake()
        body = {"message": "Reconciliation job queued", "jobId": run.pk, "status": run.status}
        return Response(
            QueuedOutput(body).data,
            status=202,
            headers={"Location": f"/v1/reconciliation/runs/{run.pk}"},
        )


class RunsView(TenantView):
    """``GET /v1/reconciliation/runs``."""

    scope_area = "reconciliation"

    @extend_schema(
        operation_id="listReconciliationRuns",
        parameters=[OpenApiParameter("limit", int)],
        responses=RunListOutput,
        tags=["Reconciliation"],
    )
    def get(self, request: Request) -> Response:
        """The newest runs of the tenant."""
        self.check_tenant()
        limit = query_int(request, "limit", LIMIT_DEFAULT, low=1, high=LIMIT_MAX)
        found = reports.latest_runs(tenant_id=self.principal.tenant_id, limit=limit)
        return Response(RunListOutput({"runs": found}).data)


class RunDetailView(TenantView):
    """``GET /v1/reconciliation/runs/{jobId}``."""

    scope_area = "reconciliation"

    @extend_schema(
        operation_id="getReconciliationRun", responses=RunOutput, tags=["Reconciliation"]
    )
    def get(self, request: Request, job_id: UUID) -> Response:
        """One run: how far it is and what it found."""
        self.check_tenant()
        run: Run | None = reports.run_of(tenant_id=self.principal.tenant_id, run_id=job_id)
        if run is None:
            raise NotFound("No such run")
        return Response(RunOutput(run).data)
