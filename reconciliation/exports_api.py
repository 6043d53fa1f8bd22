"""``/v1/reconciliation/exports``: files for finance, made in the background."""

from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from reconciliation.exports.writers import FORMATS
from reconciliation.models import Export
from reconciliation.runs_api import period_of
from reconciliation.services import exports
from reconciliation.tasks import wake
from stripemeter.lib import clock
from stripemeter.lib.drf import InstantField, StrictSerializer, TextField, query_int, query_text
from stripemeter.lib.errors import NotFound
from stripemeter.tenancy.api_base import TenantView

MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


class ExportInput(StrictSerializer):
    """Which period, in which format."""

    tenantId = TextField(required=False)
    period = TextField(max_length=10)
    format = serializers.ChoiceField(choices=FORMATS, default="csv")


class ExportOutput(serializers.Serializer[Any]):
    """One export. ``files`` have links that open them for a quarter of an hour."""

    id = serializers.UUIDField()
    status = serializers.CharField()
    format = serializers.CharField()
    periodStart = InstantField(source="period_start")
    periodEnd = InstantField(source="period_end")
    requestedBy = serializers.CharField(source="requested_by")
    requestedAt = InstantField(source="requested_at")
    finishedAt = InstantField(source="finished_at", allow_null=True)
    expiresAt = InstantField(source="expires_at")
    rowsExpected = serializers.IntegerField(source="rows_expected")
    rowsWritten = serializers.IntegerField(source="rows_written")
    error = serializers.CharField()
    manifest = serializers.JSONField(allow_null=True)
    files = serializers.SerializerMethodField()

    def get_files(self, export: Export) -> list[dict[str, Any]]:
        """Name, size, digest and link of each file; none before it is done."""
        if export.status != Export.Status.DONE or not export.manifest:
            return []
        path = settings.PUBLIC_URL + reverse("export-download")
        return [
            {**file, "url": f"{path}?token={exports.link_token(export, file['name'])}"}
            for file in export.manifest["files"]
        ]


class ExportsView(TenantView):
    """``GET`` and ``POST /v1/reconciliation/exports``."""

    scope_area = "reconciliation"
    # Asking for an export reads; it changes nothing that is billed.
    scope_verbs = {"POST": "read"}

    @extend_schema(
        operation_id="listExports",
        parameters=[OpenApiParameter("limit", int)],
        responses={200: dict},
        tags=["Reconciliation"],
    )
    def get(self, request: Request) -> Response:
        """The newest exports."""
        self.check_tenant()
        limit = query_int(request, "limit", 20, low=1, high=100)
        found = Export.objects.filter(tenant_id=self.principal.tenant_id)
        rows = list(found.order_by("-requested_at")[:limit])
        return Response({"exports": ExportOutput(rows, many=True).data})

    @extend_schema(
        operation_id="requestExport",
        request=ExportInput,
        responses={202: ExportOutput},
        tags=["Reconciliation"],
    )
    def post(self, request: Request) -> Response:
        """Queue an export of a month."""
        self.check_tenant(request.data)
        given = ExportInput(data=request.data)
        given.is_valid(raise_exception=True)
        period = period_of(given.validated_data["period"])
        assert period is not None
        export = exports.request_export(
            tenant_id=self.principal.tenant_id,
            period=period,
            file_format=given.validated_data["format"],
            actor=self.principal.actor,
            now=clock.now(),
        )
        wake()
        return Response(
            ExportOutput(export).data,
            status=202,
            headers={"Location": f"/v1/reconciliation/exports/{export.pk}"},
        )


class ExportView(TenantView):
    """``GET /v1/reconciliation/exports/{id}``."""

    scope_area = "reconciliation"

    @extend_schema(operation_id="getExport", responses=ExportOutput, tags=["Reconciliation"])
    def get(self, request: Request, export_id: UUID) -> Response:
        """Progress, and links once it is done."""
        self.check_tenant()
        export = Export.objects.filter(tenant_id=self.principal.tenant_id, pk=export_id).first()
        if export is None:
            raise NotFound("No such export")
        return Response(ExportOutput(export).data)


class DownloadView(APIView):
    """``GET /v1/reconciliation/exports/download``: the signed token is the permission."""

    authentication_classes = ()
    permission_classes = ()

    @extend_schema(
        operation_id="downloadExport",
        parameters=[OpenApiParameter("token", str, required=True)],
        responses={200: bytes},
        tags=["Reconciliation"],
    )
    def get(self, request: Request) -> HttpResponseBase:
        """One file, streamed."""
        export, file = exports.opened(query_text(request, "token") or "")
        response = StreamingHttpResponse(
            exports.content(export, file), content_type=MEDIA_TYPES[export.format]
        )
        response["Content-Disposition"] = (
            f'attachment; filename="{export.period_start:%Y-%m}_{file}"'
        )
        response["X-Content-Type-Options"] = "nosniff"
        response["Cache-Control"] = "private, no-store"
        response["Referrer-Policy"] = "no-referrer"
        return response
