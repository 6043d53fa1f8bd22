"""``/v1/reconciliation/findings``: differences with a name, and what people say of them."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from reconciliation.facts import Cause
from reconciliation.models import Finding
from reconciliation.runs_api import period_of
from reconciliation.selectors import reports
from reconciliation.services import findings
from stripemeter.lib import clock, cursors
from stripemeter.lib.drf import (
    DayField,
    ExactDecimalField,
    InstantField,
    StrictSerializer,
    TextField,
    query_choice,
    query_int,
    query_text,
)
from stripemeter.lib.errors import NotFound
from stripemeter.tenancy.api_base import TenantView

PAGE_DEFAULT, PAGE_MAX = 50, 500
_STATES = tuple(Finding.State.values)
_CAUSES = tuple(str(each) for each in Cause)
_SEVERITIES = tuple(Finding.Severity.values)


class FindingOutput(serializers.Serializer[Any]):
    """One finding. ``units`` are Stripe's, signed: ours minus Stripe's."""

    id = serializers.UUIDField()
    cause = serializers.CharField()
    state = serializers.CharField()
    severity = serializers.CharField()
    mappingId = serializers.UUIDField(source="mapping_id")
    metric = serializers.SerializerMethodField()
    customerRef = serializers.CharField(source="customer_ref")
    mode = serializers.CharField()
    periodStart = InstantField(source="period_start")
    periodEnd = InstantField(source="period_end")
    units = ExactDecimalField()
    amountMinor = ExactDecimalField(source="amount_minor", allow_null=True)
    currency = serializers.CharField()
    days = serializers.ListField(child=DayField())
    pushIds = serializers.ListField(child=serializers.UUIDField(), source="push_ids")
    evidence = serializers.JSONField()
    owner = serializers.CharField()
    note = serializers.CharField()
    openedAt = InstantField(source="opened_at")
    seenAt = InstantField(source="seen_at")
    decidedBy = serializers.CharField(source="decided_by")
    closedAt = InstantField(source="closed_at", allow_null=True)
    firstJobId = serializers.UUIDField(source="first_run_id")
    lastJobId = serializers.UUIDField(source="last_run_id")

    def get_metric(self, finding: Finding) -> str:
        """Name of the metric."""
        names: dict[int, str] = self.context["metrics"]
        return names.get(finding.metric_id, "")


class FindingListOutput(serializers.Serializer[Any]):
    """A page, newest first."""

    findings = FindingOutput(many=True)
    nextCursor = serializers.CharField(allow_null=True)


class DecisionInput(StrictSerializer):
    """A person's word on a finding."""

    tenantId = TextField(required=False)
    state = TextField(max_length=9)
    note = TextField(max_length=1_000, required=False, default="", allow_blank=True)
    owner = TextField(max_length=200, required=False, allow_blank=True)


def _names(view: TenantView) -> dict[str, Any]:
    return {"metrics": reports.metric_names(view.principal.tenant_id)}


class FindingsView(TenantView):
    """``GET /v1/reconciliation/findings``."""

    scope_area = "reconciliation"

    @extend_schema(
        operation_id="listFindings",
        parameters=[
            OpenApiParameter("state", str, enum=list(_STATES)),
            OpenApiParameter("cause", str, enum=list(_CAUSES)),
            OpenApiParameter("severity", str, enum=list(_SEVERITIES)),
            OpenApiParameter("customerRef", str),
            OpenApiParameter("period", str),
            OpenApiParameter("active", str, enum=["true", "false"]),
            OpenApiParameter("limit", int),
            OpenApiParameter("cursor", str),
        ],
        responses=FindingListOutput,
        tags=["Reconciliation"],
    )
    def get(self, request: Request) -> Response:
        """One page of findings."""
        self.check_tenant()
        limit = query_int(request, "limit", PAGE_DEFAULT, low=1, high=PAGE_MAX)
        state = query_choice(request, "state", "", ("", *_STATES))
        cause = query_choice(request, "cause", "", ("", *_CAUSES))
        severity = query_choice(request, "severity", "", ("", *_SEVERITIES))
        active = query_choice(request, "active", "", ("", "true", "false"))
        customer = query_text(request, "customerRef")
        period = query_text(request, "period")
        filters = [state, cause, severity, active, customer, period]
        bound = {"filters": filters}
        key = self.principal.tenant_key
        raw = query_text(request, "cursor")
        before = None
        if raw:
            position = cursors.decode(raw, tenant_key=key, listing="findings", filters=bound)
            before = UUID(str(position))
        found = reports.findings(
            tenant_id=self.principal.tenant_id,
            limit=limit,
            before=before,
            states=(state,) if state else (),
            cause=cause,
            severity=severity,
            customer_ref=customer,
            period=period_of(period),
            active=None if not active else active == "true",
        )
        following = None
        if len(found) == limit:
            following = cursors.encode(
                str(found[-1].pk), tenant_key=key, listing="findings", filters=bound
            )
        page = {"findings": found, "nextCursor": following}
        return Response(FindingListOutput(page, context=_names(self)).data)


class FindingView(TenantView):
    """``GET`` and ``PATCH /v1/reconciliation/findings/{id}``."""

    scope_area = "reconciliation"

    @extend_schema(operation_id="getFinding", responses=FindingOutput, tags=["Reconciliation"])
    def get(self, request: Request, finding_id: UUID) -> Response:
        """One finding with its evidence."""
        self.check_tenant()
        found = reports.finding(tenant_id=self.principal.tenant_id, finding_id=finding_id)
        if found is None:
            raise NotFound("No such finding")
        return Response(FindingOutput(found, context=_names(self)).data)

    @extend_schema(
        operation_id="decideFinding",
        request=DecisionInput,
        responses=FindingOutput,
        tags=["Reconciliation"],
    )
    def patch(self, request: Request, finding_id: UUID) -> Response:
        """Explain it, accept it, take it up again, or give it an owner."""
        self.check_tenant(request.data)
        given = DecisionInput(data=request.data)
        given.is_valid(raise_exception=True)
        found = findings.decide(
            tenant_id=self.principal.tenant_id,
            finding_id=finding_id,
            state=given.validated_data["state"],
            note=given.validated_data["note"],
            owner=given.validated_data.get("owner"),
            actor=self.principal.actor,
            now=clock.now(),
        )
        return Response(FindingOutput(found, context=_names(self)).data)
