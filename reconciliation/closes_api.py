"""``/v1/reconciliation/closes``: the board, closing, certificates; and bulk approvals."""

from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from counters.services.adjustments import Approver, approve_adjustments
from reconciliation.models import PeriodClose
from reconciliation.runs_api import period_of
from reconciliation.selectors import board
from reconciliation.services import closes
from stripemeter.lib import clock
from stripemeter.lib.drf import FlagField, InstantField, StrictSerializer, TextField, query_int
from stripemeter.lib.errors import NotFound
from stripemeter.lib.periods import Period
from stripemeter.tenancy.api_base import TenantView

APPROVALS_MAX = 1_000


class CloseOutput(serializers.Serializer[Any]):
    """A closed period."""

    id = serializers.UUIDField()
    periodStart = InstantField(source="period_start")
    periodEnd = InstantField(source="period_end")
    state = serializers.CharField()
    jobId = serializers.UUIDField(source="run_id", allow_null=True)
    closedBy = serializers.CharField(source="closed_by")
    closedAt = InstantField(source="closed_at")
    sealedBy = serializers.CharField(source="sealed_by")
    sealedAt = InstantField(source="sealed_at", allow_null=True)
    note = serializers.CharField()
    board = serializers.JSONField()
    certificate = serializers.JSONField(allow_null=True)
    certificateSha256 = serializers.CharField(source="certificate_sha256")
    signature = serializers.CharField()


class CloseInput(StrictSerializer):
    """Which period, and whether in spite of what blocks it."""

    tenantId = TextField(required=False)
    period = TextField(max_length=10)
    note = TextField(max_length=1_000, required=False, default="", allow_blank=True)
    force = FlagField(required=False, default=False)


def _month(text: str) -> Period:
    period = period_of(text)
    assert period is not None
    return period


class ClosesView(TenantView):
    """``GET`` and ``POST /v1/reconciliation/closes``."""

    scope_area = "reconciliation"

    @extend_schema(
        operation_id="listCloses",
        parameters=[OpenApiParameter("limit", int)],
        responses={200: dict},
        tags=["Reconciliation"],
    )
    def get(self, request: Request) -> Response:
        """The newest closes."""
        self.check_tenant()
        limit = query_int(request, "limit", 24, low=1, high=200)
        found = board.closes(tenant_id=self.principal.tenant_id, limit=limit)
        return Response({"closes": CloseOutput(found, many=True).data})

    @extend_schema(
        operation_id="closePeriod",
        request=CloseInput,
        responses={201: CloseOutput},
        tags=["Reconciliation"],
    )
    def post(self, request: Request) -> Response:
        """Freeze a period that is over."""
        self.check_tenant(request.data)
        given = CloseInput(data=request.data)
        given.is_valid(raise_exception=True)
        row = closes.close(
            tenant_id=self.principal.tenant_id,
            period=_month(given.validated_data["period"]),
            actor=self.principal.actor,
            now=clock.now(),
            note=given.validated_data["note"],
            force=given.validated_data["force"],
        )
        return Response(CloseOutput(row).data, status=201)


class CloseBoardView(TenantView):
    """``GET /v1/reconciliation/closes/{period}``: board, close and countdown."""

    scope_area = "reconciliation"

    @extend_schema(operation_id="getCloseBoard", responses={200: dict}, tags=["Reconciliation"])
    def get(self, request: Request, period: str) -> Response:
        """What still stands between the period and its certificate."""
        self.check_tenant()
        month, tenant_id = _month(period), self.principal.tenant_id
        found = board.board(tenant_id=tenant_id, period=month, now=clock.now())
        row = board.close_of(tenant_id=tenant_id, period=month)
        return Response({"board": found, "close": CloseOutput(row).data if row else None})


class _PeriodActView(TenantView):
    scope_area = "reconciliation"

    def _row(self, period: str) -> PeriodClose:
        row = board.close_of(tenant_id=self.principal.tenant_id, period=_month(period))
        if row is None:
            raise NotFound("The period was not closed")
        return row


class SealView(_PeriodActView):
    """``POST /v1/reconciliation/closes/{period}/certificate``."""

    @extend_schema(
        operation_id="certifyPeriod", request=None, responses=CloseOutput, tags=["Reconciliation"]
    )
    def post(self, request: Request, period: str) -> Response:
        """Certify the closed period by the last run since."""
        self.check_tenant(request.data)
        self._row(period)
        row = closes.seal(
            tenant_id=self.principal.tenant_id,
            period=_month(period),
            actor=self.principal.actor,
            now=clock.now(),
        )
        return Response(CloseOutput(row).data)

    @extend_schema(operation_id="getCertificate", responses={200: dict}, tags=["Reconciliation"])
    def get(self, request: Request, period: str) -> Response:
        """The certificate, and whether everything still agrees with it."""
        self.check_tenant()
        row = self._row(period)
        mismatches = closes.verify(row, clock=clock.now)
        return Response(
            {
                "certificate": row.certificate,
                "sha256": row.certificate_sha256,
                "signature": row.signature,
                "valid": not mismatches,
                "mismatches": mismatches,
            }
        )


class ApprovalsInput(StrictSerializer):
    """Adjustments to approve."""

    tenantId = TextField(required=False)
    adjustmentIds = serializers.ListField(
        child=serializers.UUIDField(), min_length=1, max_length=APPROVALS_MAX
    )
    reason = TextField(max_length=1_000)


class ApprovalsView(TenantView):
    """``POST /v1/reconciliation/adjustments``: needs ``reconciliation:write`` itself."""

    scope_area = "reconciliation"
    required_scopes = ("reconciliation:write",)
    body_limit_bytes = settings.RECONCILIATION_BODY_LIMIT_BYTES

    @extend_schema(
        operation_id="approveAdjustments",
        request=ApprovalsInput,
        responses={200: dict},
        tags=["Reconciliation"],
    )
    def post(self, request: Request) -> Response:
        """Approve each adjustment by itself; one refusal stops no other."""
        self.check_tenant(request.data)
        given = ApprovalsInput(data=request.data)
        given.is_valid(raise_exception=True)
        done = approve_adjustments(
            tenant_id=self.principal.tenant_id,
            adjustment_ids=given.validated_data["adjustmentIds"],
            approver=Approver(self.principal.actor),
            now=clock.now(),
        )
        return Response(
            {"applied": done.applied, "failed": len(done.failed), "failures": done.failed}
        )
