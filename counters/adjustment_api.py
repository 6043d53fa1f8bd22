"""Adjustments over the API: ask, approve, carry forward, reject, revert."""

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from counters.api import customer_of
from counters.models import Adjustment
from counters.selectors.adjustments import adjustment, adjustments
from counters.services.adjustments import (
    GIVEN_REASONS,
    Approver,
    approve_adjustment,
    carry_forward,
    create_adjustment,
    reject_adjustment,
    revert_adjustment,
)
from stripemeter.lib import clock, cursors, instants
from stripemeter.lib.decimals import plain
from stripemeter.lib.drf import (
    DayField,
    ExactDecimalField,
    InstantField,
    MetricField,
    ReferenceField,
    StrictSerializer,
    TextField,
    query_int,
    query_text,
)
from stripemeter.lib.errors import invalid
from stripemeter.lib.instants import InvalidInstant, parse_date, parse_instant
from stripemeter.tenancy.api_base import TenantView

PAGE_DEFAULT, PAGE_MAX = 100, 1_000
#: The ledger's own bound of quantities.
DELTA_MAX = Decimal(10) ** 26 - 1
_TENANT = OpenApiParameter("tenantId", str)


@extend_schema_field(OpenApiTypes.STR)
class DayOrInstantField(serializers.Field[Any, Any, Any, Any]):
    """A date ``YYYY-MM-DD`` or an RFC 3339 instant."""

    def to_internal_value(self, data: Any) -> Any:
        """The date or the aware UTC datetime."""
        try:
            return parse_instant(data) if "T" in str(data) else parse_date(data)
        except InvalidInstant as error:
            raise serializers.ValidationError(str(error), code="invalid_date") from error

    def to_representation(self, value: Any) -> str:
        """RFC 3339 text."""
        return instants.rfc3339(value)


class AdjustmentOutput(serializers.Serializer[Any]):
    """An adjustment; ``delta`` is exact text, in the metric's unit."""

    id = serializers.UUIDField()
    tenantId = serializers.CharField(source="tenant.key")
    metric = serializers.CharField(source="metric.name")
    customerRef = serializers.CharField(source="customer_ref")
    periodStart = InstantField(source="period_start")
    day = DayField()
    delta = serializers.SerializerMethodField()
    reason = serializers.CharField()
    actor = serializers.CharField()
    status = serializers.CharField()
    approvedBy = serializers.CharField(source="approved_by")
    approvedAt = InstantField(source="approved_at", allow_null=True)
    rejectedBy = serializers.CharField(source="rejected_by")
    rejectedAt = InstantField(source="rejected_at", allow_null=True)
    revertedBy = serializers.CharField(source="reverted_by")
    revertedAt = InstantField(source="reverted_at", allow_null=True)
    parentAdjustmentId = serializers.UUIDField(source="parent_id", allow_null=True)
    requestId = serializers.CharField(source="request_id", allow_null=True)
    note = serializers.CharField()
    createdAt = InstantField(source="created_at")

    def get_delta(self, row: Adjustment) -> str:
        """Plain decimal text."""
        return plain(row.delta)


class AdjustmentListOutput(serializers.Serializer[Any]):
    """One page, newest first; ``nextCursor`` is null on the last."""

    adjustments = AdjustmentOutput(many=True)
    nextCursor = serializers.CharField(allow_null=True)


class DoneOutput(serializers.Serializer[Any]):
    """It is done; ``already`` if it had been before."""

    ok = serializers.BooleanField()
    id = serializers.UUIDField(required=False)
    already = serializers.BooleanField(required=False)


def _id_of(raw: str) -> UUID:
    try:
        return UUID(raw)
    except ValueError as error:
        raise invalid("id", "must be a UUID") from error


class AdjustmentsView(TenantView):
    """``/v1/adjustments``."""

    class Input(StrictSerializer):
        """A correction; ``periodStart`` names the billing period it belongs to."""

        tenantId = TextField(required=False)
        metric = MetricField()
        customerRef = ReferenceField()
        periodStart = DayOrInstantField()
        delta = ExactDecimalField(low=-DELTA_MAX, high=DELTA_MAX)
        reason = serializers.ChoiceField(choices=[reason.value for reason in GIVEN_REASONS])
        requestId = ReferenceField(required=False, allow_null=True, default=None)
        note = TextField(required=False, allow_blank=True, default="", max_length=1_000)
        day = DayField(required=False, allow_null=True, default=None)

    @extend_schema(
        operation_id="listAdjustments",
        parameters=[
            _TENANT,
            OpenApiParameter("metric", str),
            OpenApiParameter("customerRef", str),
            OpenApiParameter("periodStart", str, description="periods from this date on"),
            OpenApiParameter("periodEnd", str, description="periods up to this date"),
            OpenApiParameter("status", str, enum=list(Adjustment.Status.values)),
            OpenApiParameter("limit", int),
            OpenApiParameter("cursor", str),
        ],
        responses=AdjustmentListOutput,
        tags=["Adjustments"],
    )
    def get(self, request: Request) -> Response:
        """List adjustments, newest first."""
        self.check_tenant()
        limit = query_int(request, "limit", PAGE_DEFAULT, low=1, high=PAGE_MAX)
        filters = {
            "metric": query_text(request, "metric"),
            "customer_ref": customer_of(request, required=False),
            "status": _status(request),
        }
        since, until = _day(request, "periodStart"), _day(request, "periodEnd")
        bound: dict[str, Any] = {
            "tenant_key": self.principal.tenant_key,
            "listing": "adjustments",
            "filters": {**filters, "since": str(since), "until": str(until)},
        }
        cursor = query_text(request, "cursor")
        before = None
        if cursor:
            at, last_id = cursors.decode(cursor, **bound)
            before = (parse_instant(at), UUID(last_id))
        found = adjustments(
            tenant_id=self.principal.tenant_id,
            limit=limit + 1,
            since=since,
            until=None if until is None else until + timedelta(days=1),
            before=before,
            **filters,
        )
        page, following = found[:limit], None
        if len(found) > limit:
            position = [instants.rfc3339(page[-1].created_at), str(page[-1].id)]
            following = cursors.encode(position, **bound)
        return Response(
            {"adjustments": AdjustmentOutput(page, many=True).data, "nextCursor": following}
        )

    @extend_schema(
        operation_id="createAdjustment",
        request=Input,
        responses={201: DoneOutput},
        tags=["Adjustments"],
    )
    def post(self, request: Request) -> Response:
        """Ask for a correction; another person or key approves it."""
        self.check_tenant(request.data)
        values = self.Input(data=request.data)
        values.is_valid(raise_exception=True)
        given = values.validated_data
        header = request.headers.get("Idempotency-Key")
        if header and (len(header) > 255 or "," in header):
            raise invalid("Idempotency-Key", "must be one key of at most 255 characters")
        made = create_adjustment(
            tenant_id=self.principal.tenant_id,
            metric=given["metric"],
            customer_ref=given["customerRef"],
            period_start=given["periodStart"],
            delta=given["delta"],
            reason=given["reason"],
            actor=self.principal.actor,
            now=clock.now(),
            note=given["note"],
            request_id=given["requestId"] or header or None,
            day=given["day"],
        )
        return Response({"ok": True, "id": str(made.id), "status": made.status}, status=201)


def _status(request: Request) -> str | None:
    raw = query_text(request, "status")
    if raw and raw not in Adjustment.Status.values:
        raise invalid("status", f"must be one of {', '.join(Adjustment.Status.values)}")
    return raw or None


def _day(request: Request, name: str) -> datetime | None:
    raw = query_text(request, name)
    if not raw:
        return None
    try:
        return datetime.combine(parse_date(raw[:10]), time.min, UTC)
    except InvalidInstant as error:
        raise invalid(name, str(error), code="invalid_date") from error


class AdjustmentView(TenantView):
    """``/v1/adjustments/:id``."""

    @extend_schema(
        operation_id="getAdjustment",
        parameters=[_TENANT],
        responses=AdjustmentOutput,
        tags=["Adjustments"],
    )
    def get(self, request: Request, adjustment_id: str) -> Response:
        """Read one adjustment."""
        self.check_tenant()
        found = adjustment(tenant_id=self.principal.tenant_id, adjustment_id=_id_of(adjustment_id))
        return Response(AdjustmentOutput(found).data)


class _DecisionView(TenantView):
    class Input(StrictSerializer):
        """Who decides is the caller; a note says why."""

        tenantId = TextField(required=False)
        note = TextField(required=False, allow_blank=True, default="", max_length=1_000)

    def decided(self, request: Request) -> dict[str, Any]:
        """The validated body."""
        self.check_tenant(request.data)
        values = self.Input(data=request.data or {})
        values.is_valid(raise_exception=True)
        return dict(values.validated_data)


class ApproveAdjustmentView(_DecisionView):
    """``POST /v1/adjustments/:id/approve``."""

    class Input(_DecisionView.Input):
        """``carryForward``: count it in the open period, since its own is frozen."""

        resolution = serializers.ChoiceField(choices=["carryForward"], required=False)

    @extend_schema(
        operation_id="approveAdjustment", request=Input, responses=DoneOutput, tags=["Adjustments"]
    )
    def post(self, request: Request, adjustment_id: str) -> Response:
        """Approve an adjustment that someone else asked for."""
        given = self.decided(request)
        named: dict[str, Any] = {
            "tenant_id": self.principal.tenant_id,
            "adjustment_id": _id_of(adjustment_id),
            "approver": Approver(self.principal.actor),
            "now": clock.now(),
        }
        if given.get("resolution") == "carryForward":
            child = carry_forward(**named, note=given["note"])
            return Response({"ok": True, "id": str(child.id)})
        if approve_adjustment(**named):
            return Response({"ok": True})
        return Response({"ok": True, "already": True})


class RejectAdjustmentView(_DecisionView):
    """``POST /v1/adjustments/:id/reject``."""

    @extend_schema(
        operation_id="rejectAdjustment",
        request=_DecisionView.Input,
        responses=DoneOutput,
        tags=["Adjustments"],
    )
    def post(self, request: Request, adjustment_id: str) -> Response:
        """Reject a pending adjustment: waived, or credited elsewhere (say so in the note)."""
        given = self.decided(request)
        fresh = reject_adjustment(
            tenant_id=self.principal.tenant_id,
            adjustment_id=_id_of(adjustment_id),
            actor=self.principal.actor,
            now=clock.now(),
            note=given["note"],
        )
        return Response({"ok": True} if fresh else {"ok": True, "already": True})


class RevertAdjustmentView(_DecisionView):
    """``POST /v1/adjustments/:id/revert``."""

    @extend_schema(
        operation_id="revertAdjustment",
        request=_DecisionView.Input,
        responses=DoneOutput,
        tags=["Adjustments"],
    )
    def post(self, request: Request, adjustment_id: str) -> Response:
        """Undo an approved adjustment, once, by a counter-entry."""
        given = self.decided(request)
        entry = revert_adjustment(
            tenant_id=self.principal.tenant_id,
            adjustment_id=_id_of(adjustment_id),
            actor=self.principal.actor,
            now=clock.now(),
            note=given["note"],
        )
        return Response({"ok": True, "id": str(entry.id)})
