"""``/v1/pushes``: what was told to Stripe, what is under way, and what waits for a person."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import selectors
from billing.mappings_api import ChoiceText, uuid_of
from billing.models import Mode, Push
from billing.services import review, running
from billing.tasks import wake_push
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
from stripemeter.lib.errors import NotFound, invalid
from stripemeter.tenancy.api_base import TenantView

PAGE_DEFAULT, PAGE_MAX = 50, 500
_STATES = tuple(Push.State.values)
_MODES = tuple(Mode.values)


class PushOutput(serializers.Serializer[Any]):
    """One push: what it says and what became of it. Values are in Stripe's units."""

    id = serializers.UUIDField()
    mappingId = serializers.UUIDField(source="mapping_id")
    customerRef = serializers.CharField(source="customer_ref")
    mode = serializers.CharField()
    stripeAccount = serializers.CharField(source="account.account")
    stripeCustomerId = serializers.CharField(source="stripe_customer_id")
    target = serializers.CharField()
    identifier = serializers.CharField()
    semantics = serializers.CharField()
    value = ExactDecimalField()
    delta = ExactDecimalField()
    carry = ExactDecimalField()
    periodStart = InstantField(source="period_start")
    day = DayField(source="slice_day")
    timestamp = InstantField(source="stamped_at")
    displaced = serializers.BooleanField()
    state = serializers.CharField()
    attempts = serializers.IntegerField()
    createdAt = InstantField(source="created_at")
    firstAttemptAt = InstantField(source="first_attempt_at", allow_null=True)
    settledAt = InstantField(source="settled_at", allow_null=True)
    nextAttemptAt = InstantField(source="not_before")
    stripeRequestId = serializers.CharField(source="stripe_request_id")
    errorCode = serializers.CharField(source="error_code")
    errorMessage = serializers.CharField(source="error_message")
    evidence = serializers.JSONField(allow_null=True)


class PushListOutput(serializers.Serializer[Any]):
    """A page, newest first. ``counts`` are those of the whole tenant, unsettled states only."""

    pushes = PushOutput(many=True)
    counts = serializers.DictField(child=serializers.IntegerField())
    nextCursor = serializers.CharField(allow_null=True)


class PushRunOutput(serializers.Serializer[Any]):
    """What asking for a run did: intents are committed, workers send them."""

    status = serializers.CharField()
    planned = serializers.IntegerField()
    open = serializers.IntegerField()
    skippedModes = serializers.DictField(child=serializers.CharField())


class ReleaseOutput(serializers.Serializer[Any]):
    """How many cursors may be planned again."""

    released = serializers.IntegerField()


class PushesView(TenantView):
    """The tenant's pushes."""

    scope_area = "reconciliation"

    @extend_schema(
        operation_id="listPushes",
        parameters=[
            OpenApiParameter("state", str, enum=list(_STATES)),
            OpenApiParameter("mode", str, enum=list(_MODES)),
            OpenApiParameter("customerRef", str),
            OpenApiParameter("mappingId", str),
            OpenApiParameter("limit", int),
            OpenApiParameter("cursor", str),
        ],
        responses=PushListOutput,
        tags=["Pushes"],
    )
    def get(self, request: Request) -> Response:
        """One page of pushes."""
        self.check_tenant()
        limit = query_int(request, "limit", PAGE_DEFAULT, low=1, high=PAGE_MAX)
        state = query_choice(request, "state", "", ("", *_STATES))
        mode = query_choice(request, "mode", "", ("", *_MODES)) or None
        reference = query_text(request, "customerRef")
        mapping = query_text(request, "mappingId")
        filters = {"state": state, "mode": mode, "customerRef": reference, "mapping": mapping}
        key = self.principal.tenant_key
        raw = query_text(request, "cursor")
        before = None
        if raw:
            position = cursors.decode(raw, tenant_key=key, listing="pushes", filters=filters)
            before = UUID(str(position))
        found = selectors.pushes(
            tenant_id=self.principal.tenant_id,
            states=(state,) if state else (),
            mode=mode,
            customer_ref=reference,
            mapping_id=_mapping_id(mapping),
            before=before,
            limit=limit + 1,
        )
        page = found[:limit]
        cursor = None
        if len(found) > limit:
            cursor = cursors.encode(
                str(page[-1].id), tenant_key=key, listing="pushes", filters=filters
            )
        return Response(
            {
                "pushes": PushOutput(page, many=True).data,
                "counts": selectors.push_counts(tenant_id=self.principal.tenant_id),
                "nextCursor": cursor,
            }
        )


def _mapping_id(raw: str | None) -> UUID | None:
    try:
        return UUID(raw) if raw else None
    except ValueError as error:
        raise invalid("mappingId", "must be a UUID") from error


class RunPushesView(TenantView):
    """Push now instead of at the next tick."""

    scope_area = "reconciliation"

    class Input(StrictSerializer):
        """Nothing but the tenant."""

        tenantId = TextField(required=False)

    @extend_schema(
        operation_id="runPushes", request=Input, responses={202: PushRunOutput}, tags=["Pushes"]
    )
    def post(self, request: Request) -> Response:
        """Write the intents that are due and wake a worker to send them."""
        body = request.data or {}
        self.check_tenant(body)
        self.Input(data=body).is_valid(raise_exception=True)
        tenant_id = self.principal.tenant_id
        planned, skipped = running.plan_now(tenant_id=tenant_id, now=clock.now())
        wake_push()
        return Response(
            {
                "status": "accepted",
                "planned": planned,
                "open": selectors.open_pushes(tenant_id=tenant_id),
                "skippedModes": skipped,
            },
            status=202,
        )


class SettlePushView(TenantView):
    """An operator's verdict on a push that the machine cannot settle."""

    scope_area = "reconciliation"

    class Input(StrictSerializer):
        """``acknowledged``: Stripe has it. ``rejected``: it does not; it is planned again."""

        tenantId = TextField(required=False)
        verdict = TextField()
        note = TextField(max_length=500, required=False, default="", allow_blank=True)

    @extend_schema(operation_id="settlePush", request=Input, responses=PushOutput, tags=["Pushes"])
    def post(self, request: Request, push_id: str) -> Response:
        """Settle a push in state needs_review, unknown or parked."""
        self.check_tenant(request.data)
        values = self.Input(data=request.data)
        values.is_valid(raise_exception=True)
        wanted = uuid_of(push_id)
        push = review.settle_push(
            tenant_id=self.principal.tenant_id,
            push_id=wanted,
            verdict=values.validated_data["verdict"],
            note=values.validated_data["note"],
            actor=self.principal.actor,
            now=clock.now(),
        )
        return Response(PushOutput(push).data)


class ReleaseView(TenantView):
    """Lets the held cursors of a mapping be planned again."""

    scope_area = "mappings"

    class Input(StrictSerializer):
        """Which side: live, or the shadow's test account."""

        tenantId = TextField(required=False)
        mode = ChoiceText(_MODES, required=False, default=Mode.LIVE)

    @extend_schema(
        operation_id="releaseMapping", request=Input, responses=ReleaseOutput, tags=["Mappings"]
    )
    def post(self, request: Request, mapping_id: str) -> Response:
        """Reject what Stripe refused and plan it anew, after its cause was put right."""
        body = request.data or {}
        self.check_tenant(body)
        values = self.Input(data=body)
        values.is_valid(raise_exception=True)
        tenant_id = self.principal.tenant_id
        found = selectors.mapping(tenant_id=tenant_id, mapping_id=uuid_of(mapping_id))
        if found is None:
            raise NotFound("No such mapping")
        released = review.release_cursors(
            tenant_id=tenant_id,
            mapping_id=found.pk,
            mode=values.validated_data["mode"],
            actor=self.principal.actor,
            now=clock.now(),
        )
        return Response({"released": released})
