"""Backfill over the API: JSON events, CSV, NDJSON, files, gzip; status, list and failed rows."""

import gzip
import io
import zlib
from collections.abc import Iterator
from datetime import date
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from ledger import tasks
from ledger.downloads import failed_rows
from ledger.files import BadLine, Record
from ledger.models import Operation
from ledger.services import backfill, operations
from ledger.uploads import text_of
from stripemeter.lib import clock, strictjson
from stripemeter.lib.drf import (
    DayField,
    MetricField,
    ReferenceField,
    StrictSerializer,
    TextField,
    query_int,
    query_text,
    read_body,
)
from stripemeter.lib.errors import (
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    UnsupportedMediaType,
    invalid,
)
from stripemeter.lib.instants import rfc3339
from stripemeter.lib.wakeup import wake
from stripemeter.tenancy.api_base import TenantView

PAGE_DEFAULT, PAGE_MAX = 50, 100
ERRORS_SHOWN_MAX = 100
_STREAMS = {"text/csv": "csv", "application/x-ndjson": "ndjson", "application/ndjson": "ndjson"}


class _Declaration(StrictSerializer):
    """What is said of all rows."""

    tenantId = TextField()
    metric = MetricField(required=False)
    customerRef = ReferenceField(required=False)
    periodStart = DayField()
    periodEnd = DayField(required=False, allow_null=True, default=None)
    reason = TextField(min_length=1, max_length=500)
    format = serializers.ChoiceField(choices=["csv", "ndjson"], required=False)


@extend_schema_field(OpenApiTypes.ANY)
class _AnyField(serializers.Field[Any, Any, Any, Any]):
    """Whatever it is, as parsed: a row that is no event fails by itself."""

    def to_internal_value(self, data: Any) -> Any:
        """The value itself."""
        return data

    def to_representation(self, value: Any) -> Any:
        """The value itself."""
        return value


class BackfillInput(_Declaration):
    """A backfill in one JSON body: ``events`` or ``csvData``, not both."""

    metric = MetricField()
    events = serializers.ListField(child=_AnyField(), required=False)
    csvData = serializers.CharField(required=False, trim_whitespace=False, allow_blank=True)


class BackfillOutput(serializers.Serializer[Any]):
    """The operation that was made."""

    operationId = serializers.UUIDField()
    status = serializers.CharField()
    message = serializers.CharField()


class BackfillStatusOutput(serializers.Serializer[Any]):
    """What has become of a backfill."""

    id = serializers.UUIDField()
    status = serializers.CharField()
    totalEvents = serializers.IntegerField()
    processedEvents = serializers.IntegerField()
    acceptedEvents = serializers.IntegerField()
    duplicateEvents = serializers.IntegerField()
    failedEvents = serializers.IntegerField()


class BackfillListOutput(serializers.Serializer[Any]):
    """One page, newest first; ``total`` counts all."""

    operations = BackfillStatusOutput(many=True)
    total = serializers.IntegerField()


def _declared(values: dict[str, Any], source_type: str) -> backfill.Declared:
    start: date = values["periodStart"]
    return backfill.Declared(
        start=start,
        end=values["periodEnd"] or backfill.end_of_month(start),
        reason=values["reason"],
        source_type=source_type,
        metric=values.get("metric"),
        customer_ref=values.get("customerRef"),
    )


class BackfillsView(TenantView):
    """``/v1/events/backfill``."""

    scope_area = "events"

    @extend_schema(
        operation_id="createBackfill",
        request=BackfillInput,
        responses=BackfillOutput,
        tags=["Events"],
    )
    def post(self, request: Request) -> Response:
        """Accept old events: JSON, or a CSV or NDJSON stream or file, also gzipped."""
        media_type = (request.content_type or "").partition(";")[0].strip().lower()
        try:
            if media_type == "multipart/form-data":
                rows, declared = self._from_form(request)
            elif media_type in _STREAMS:
                rows, declared = self._from_stream(request, _STREAMS[media_type])
            else:
                rows, declared = self._from_json(request, media_type)
            operation = backfill.create_backfill(
                tenant_id=self.principal.tenant_id,
                tenant_key=self.principal.tenant_key,
                rows=rows,
                declared=declared,
                actor=self.principal.actor,
                now=clock.now(),
            )
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InvalidRequest("The upload is not a whole gzip file.") from error
        wake(tasks.backfill)
        return Response(
            {
                "operationId": str(operation.id),
                "status": "pending",
                "message": "Backfill operation queued successfully",
            }
        )

    def _from_json(
        self, request: Request, media_type: str
    ) -> tuple[Iterator[Record | BadLine], backfill.Declared]:
        if media_type != "application/json":
            raise UnsupportedMediaType(
                "Send application/json, text/csv, application/x-ndjson or multipart/form-data."
            )
        body = read_body(request._request, limit=settings.BACKFILL_BODY_LIMIT_BYTES)
        if _is_gzip(request):
            unpacked = text_of(io.BytesIO(body), compressed=True)
            body = unpacked.read(settings.BACKFILL_BODY_LIMIT_BYTES + 1).encode(
                "utf-8", "surrogateescape"
            )
            if len(body) > settings.BACKFILL_BODY_LIMIT_BYTES:
                raise PayloadTooLarge("The unpacked body is too large.")
        try:
            document = strictjson.loads(body)
        except strictjson.InvalidJSON as error:
            raise InvalidRequest(str(error), code="invalid_json") from error
        self.check_tenant(document, required=True)
        values = BackfillInput(data=document)
        values.is_valid(raise_exception=True)
        given = values.validated_data
        if ("events" in given) == ("csvData" in given):
            raise invalid("events", "Either events or csvData must be provided")
        if "csvData" in given:
            declared = _declared(given, "csv")
            text = io.StringIO(given["csvData"], newline="")
            return backfill.read_csv(text, declared=declared), declared
        if len(given["events"]) > settings.MAX_BACKFILL_EVENTS:
            raise PayloadTooLarge(f"events may hold at most {settings.MAX_BACKFILL_EVENTS}.")
        return backfill.read_events(given["events"]), _declared(given, "events")

    def _from_stream(
        self, request: Request, kind: str
    ) -> tuple[Iterator[Record | BadLine], backfill.Declared]:
        values = self._declaration(
            {name: request.query_params[name] for name in request.query_params}
        )
        declared = _declared(values, kind)
        text = text_of(request._request, compressed=_is_gzip(request))
        return _rows(text, kind, declared), declared

    def _from_form(self, request: Request) -> tuple[Iterator[Record | BadLine], backfill.Declared]:
        form = request._request
        files = form.FILES.getlist("file")
        if len(files) != 1 or len(form.FILES) != 1:
            raise invalid("file", "exactly one file is required")
        upload = files[0]
        values = self._declaration(dict(form.POST.items()))
        name = (upload.name or "").lower()
        compressed = name.endswith(".gz")
        name = name.removesuffix(".gz")
        kind = values.get("format") or ("csv" if name.endswith(".csv") else "ndjson")
        declared = _declared(values, kind)
        return _rows(text_of(upload, compressed=compressed), kind, declared), declared

    def _declaration(self, given: dict[str, Any]) -> dict[str, Any]:
        self.check_tenant(given, required=True)
        values = _Declaration(data=given)
        values.is_valid(raise_exception=True)
        return dict(values.validated_data)

    @extend_schema(
        operation_id="listBackfills",
        parameters=[
            OpenApiParameter("tenantId", str),
            OpenApiParameter("status", str, enum=list(Operation.Status.values)),
            OpenApiParameter("limit", int),
            OpenApiParameter("offset", int),
        ],
        responses=BackfillListOutput,
        tags=["Events"],
    )
    def get(self, request: Request) -> Response:
        """List backfills, newest first."""
        self.check_tenant()
        status = query_text(request, "status")
        if status and status not in Operation.Status.values:
            raise invalid("status", f"must be one of {', '.join(Operation.Status.values)}")
        found, total = operations.operations(
            tenant_id=self.principal.tenant_id,
            kind=Operation.Kind.BACKFILL,
            status=status,
            limit=query_int(request, "limit", PAGE_DEFAULT, low=1, high=PAGE_MAX),
            offset=query_int(request, "offset", 0, low=0, high=1_000_000),
        )
        tenant_key = self.principal.tenant_key
        return Response({"operations": [shown(row, tenant_key) for row in found], "total": total})


def _is_gzip(request: Request) -> bool:
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding not in {"identity", "gzip"}:
        raise UnsupportedMediaType("Content-Encoding must be gzip or identity.")
    return encoding == "gzip"


def _rows(
    text: io.TextIOWrapper, kind: str, declared: backfill.Declared
) -> Iterator[Record | BadLine]:
    if kind == "csv":
        return backfill.read_csv(text, declared=declared)
    return backfill.read_ndjson(text)


def shown(operation: Operation, tenant_key: str) -> dict[str, Any]:
    """A backfill as the wire shows it."""
    request, counts = operation.request, backfill.counts_of(operation)
    instants = {
        "startedAt": operation.started_at,
        "completedAt": operation.completed_at,
        "createdAt": operation.created_at,
        "updatedAt": operation.updated_at,
    }
    return {
        "id": str(operation.id),
        "tenantId": tenant_key,
        "metric": request["metric"],
        "customerRef": request["customerRef"],
        "periodStart": request["periodStart"],
        "periodEnd": request["periodEnd"],
        "status": operation.status,
        "reason": request["reason"],
        "actor": operation.actor,
        "totalEvents": counts["total"],
        "processedEvents": counts["processed"],
        "acceptedEvents": counts["accepted"],
        "failedEvents": counts["failed"],
        "duplicateEvents": counts["duplicates"],
        "sourceType": request["sourceType"],
        "errorMessage": operation.error or None,
        **{name: value and rfc3339(value) for name, value in instants.items()},
    }


def _found(view: TenantView, operation_id: str) -> Operation:
    try:
        identifier = UUID(operation_id)
    except ValueError as error:
        raise NotFound("Backfill operation not found") from error
    return operations.operation(
        tenant_id=view.principal.tenant_id,
        operation_id=identifier,
        kind=Operation.Kind.BACKFILL,
    )


class BackfillView(TenantView):
    """``GET /v1/events/backfill/:id``."""

    scope_area = "events"

    @extend_schema(operation_id="getBackfill", responses=BackfillStatusOutput, tags=["Events"])
    def get(self, request: Request, operation_id: str) -> Response:
        """One backfill, with its first failed rows."""
        self.check_tenant()
        operation = _found(self, operation_id)
        errors = []
        for line, code, reason in backfill.errors_of(operation):
            errors.append({"line": line, "code": code, "error": reason})
            if len(errors) == ERRORS_SHOWN_MAX:
                break
        answer = shown(operation, self.principal.tenant_key)
        return Response({**answer, "errors": errors})


class BackfillErrorsView(TenantView):
    """``GET /v1/events/backfill/:id/errors``."""

    scope_area = "events"

    @extend_schema(
        operation_id="getBackfillErrors", responses={(200, "text/csv"): str}, tags=["Events"]
    )
    def get(self, request: Request, operation_id: str) -> StreamingHttpResponse:
        """Every failed row with its line and reason, as CSV."""
        self.check_tenant()
        operation = _found(self, operation_id)
        return failed_rows(operation)
