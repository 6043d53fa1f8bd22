"""Long operations over the API: read, cancel, resume."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from ledger.models import Operation
from ledger.services import operations
from stripemeter.lib import clock
from stripemeter.lib.drf import StrictSerializer, TextField, query_int, query_text
from stripemeter.lib.errors import NotFound, invalid
from stripemeter.lib.instants import rfc3339
from stripemeter.tenancy.api_base import TenantView

PAGE_DEFAULT, PAGE_MAX = 50, 100


class OperationOutput(serializers.Serializer[Any]):
    """An operation; ``progress`` counts steps, ``result`` is what has come of it so far."""

    id = serializers.UUIDField()
    kind = serializers.CharField()
    status = serializers.CharField()
    progress = serializers.DictField()
    request = serializers.DictField()
    result = serializers.DictField()


class OperationListOutput(serializers.Serializer[Any]):
    """One page, newest first; ``total`` counts all."""

    operations = OperationOutput(many=True)
    total = serializers.IntegerField()


def shown(operation: Operation) -> dict[str, Any]:
    """An operation as the wire shows it."""
    instants = {
        "createdAt": operation.created_at,
        "startedAt": operation.started_at,
        "completedAt": operation.completed_at,
        "updatedAt": operation.updated_at,
    }
    return {
        "id": str(operation.id),
        "kind": operation.kind,
        "status": operation.status,
        "progress": {"done": operation.steps_done, "total": operation.steps_total},
        "cancelRequested": operation.cancel_requested,
        "request": operation.request,
        "result": operation.result,
        "error": operation.error or None,
        "actor": operation.actor,
        **{name: value and rfc3339(value) for name, value in instants.items()},
    }


def id_of(raw: str) -> UUID:
    """The operation id in the path. Raises `NotFound`."""
    try:
        return UUID(raw)
    except ValueError as error:
        raise NotFound() from error


class OperationsView(TenantView):
    """``GET /v1/operations``."""

    @extend_schema(
        operation_id="listOperations",
        parameters=[
            OpenApiParameter("kind", str, enum=list(Operation.Kind.values)),
            OpenApiParameter("status", str, enum=list(Operation.Status.values)),
            OpenApiParameter("limit", int),
            OpenApiParameter("offset", int),
        ],
        responses=OperationListOutput,
        tags=["Operations"],
    )
    def get(self, request: Request) -> Response:
        """List operations, newest first."""
        self.check_tenant()
        chosen: dict[str, str | None] = {}
        for name, known in (("kind", Operation.Kind.values), ("status", Operation.Status.values)):
            chosen[name] = query_text(request, name)
            if chosen[name] and chosen[name] not in known:
                raise invalid(name, f"must be one of {', '.join(known)}")
        found, total = operations.operations(
            tenant_id=self.principal.tenant_id,
            kind=chosen["kind"],
            status=chosen["status"],
            limit=query_int(request, "limit", PAGE_DEFAULT, low=1, high=PAGE_MAX),
            offset=query_int(request, "offset", 0, low=0, high=1_000_000),
        )
        return Response({"operations": [shown(row) for row in found], "total": total})


class OperationView(TenantView):
    """``GET /v1/operations/:id``."""

    @extend_schema(operation_id="getOperation", responses=OperationOutput, tags=["Operations"])
    def get(self, request: Request, operation_id: str) -> Response:
        """Read one operation."""
        self.check_tenant()
        found = operations.operation(
            tenant_id=self.principal.tenant_id, operation_id=id_of(operation_id)
        )
        return Response(shown(found))


class _Empty(StrictSerializer):
    """Nothing needs to be said."""

    tenantId = TextField(required=False)


class CancelOperationView(TenantView):
    """``POST /v1/operations/:id/cancel``."""

    @extend_schema(
        operation_id="cancelOperation",
        request=_Empty,
        responses=OperationOutput,
        tags=["Operations"],
    )
    def post(self, request: Request, operation_id: str) -> Response:
        """Stop the operation at the end of its current step; what is done stays done."""
        self.check_tenant(request.data)
        _Empty(data=request.data or {}).is_valid(raise_exception=True)
        stopped = operations.cancel(
            tenant_id=self.principal.tenant_id,
            operation_id=id_of(operation_id),
            actor=self.principal.actor,
            now=clock.now(),
        )
        return Response(shown(stopped))


class ResumeOperationView(TenantView):
    """``POST /v1/operations/:id/resume``."""

    @extend_schema(
        operation_id="resumeOperation",
        request=_Empty,
        responses=OperationOutput,
        tags=["Operations"],
    )
    def post(self, request: Request, operation_id: str) -> Response:
        """Let a cancelled or failed operation go on where it stopped."""
        self.check_tenant(request.data)
        _Empty(data=request.data or {}).is_valid(raise_exception=True)
        resumed = operations.resume(
            tenant_id=self.principal.tenant_id,
            operation_id=id_of(operation_id),
            actor=self.principal.actor,
            now=clock.now(),
        )
        return Response(shown(resumed))
