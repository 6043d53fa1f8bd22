"""``/v1/webhook-endpoints`` and ``/v1/webhook-deliveries``: who is told, and what became of it."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import selectors_alerts as reads
from billing.mappings_api import uuid_of
from billing.models import Delivery
from billing.services import deliveries, endpoints
from billing.services.mappings import Actor
from stripemeter.lib import clock, cursors
from stripemeter.lib.drf import (
    FlagField,
    InstantField,
    StrictSerializer,
    TextField,
    WholeField,
    query_choice,
    query_int,
    query_text,
)
from stripemeter.tenancy.api_base import TenantView

STATUSES = tuple(Delivery.Status.values)


class NewEndpoint(StrictSerializer):
    """An https address and the event types it wants (or families such as ``alert.*``)."""

    tenantId = TextField(required=False)
    url = TextField(max_length=2_000)
    eventTypes = serializers.ListField(
        child=TextField(max_length=80), min_length=1, max_length=50, source="event_types"
    )
    description = TextField(required=False, allow_blank=True, default="")


class EndpointChanges(StrictSerializer):
    """What may change."""

    tenantId = TextField(required=False)
    url = TextField(max_length=2_000, required=False)
    eventTypes = serializers.ListField(
        child=TextField(max_length=80),
        min_length=1,
        max_length=50,
        source="event_types",
        required=False,
    )
    description = TextField(required=False, allow_blank=True)
    enabled = FlagField(required=False)


class RotateInput(StrictSerializer):
    """How long messages are also signed with the old secret; a day if absent."""

    tenantId = TextField(required=False)
    overlapSeconds = WholeField(required=False, min_value=0, max_value=7 * 86_400)


class NothingInput(StrictSerializer):
    """Nothing needs to be said."""

    tenantId = TextField(required=False)


class EndpointOutput(serializers.Serializer[Any]):
    """An endpoint; its secret is not shown again."""

    id = serializers.UUIDField()
    tenantId = serializers.CharField(source="tenant.key")
    url = serializers.CharField()
    description = serializers.CharField()
    eventTypes = serializers.ListField(child=serializers.CharField(), source="event_types")
    enabled = serializers.BooleanField()
    disabledAt = InstantField(source="disabled_at", allow_null=True)
    disabledReason = serializers.CharField(source="disabled_reason")
    lastSuccessAt = InstantField(source="last_success_at", allow_null=True)
    previousSecretUntil = InstantField(source="previous_until", allow_null=True)
    createdAt = InstantField(source="created_at")
    updatedAt = InstantField(source="updated_at")


class EndpointSecretOutput(EndpointOutput):
    """With the signing secret, this once."""

    secret = serializers.CharField()


class DeliveryOutput(serializers.Serializer[Any]):
    """A message to one receiver."""

    id = serializers.UUIDField()
    messageId = serializers.CharField(source="message_id")
    channel = serializers.CharField()
    endpointId = serializers.UUIDField(source="endpoint_id", allow_null=True)
    eventType = serializers.CharField(source="event_type")
    status = serializers.CharField()
    attempts = serializers.IntegerField()
    lastError = serializers.CharField(source="last_error")
    nextAttemptAt = InstantField(source="next_attempt_at")
    deliveredAt = InstantField(source="delivered_at", allow_null=True)
    createdAt = InstantField(source="created_at")


class AttemptOutput(serializers.Serializer[Any]):
    """One try."""

    number = serializers.IntegerField()
    startedAt = InstantField(source="started_at")
    durationMs = serializers.IntegerField(source="duration_ms")
    httpStatus = serializers.IntegerField(source="http_status", allow_null=True)
    error = serializers.CharField()
    answer = serializers.CharField()


class DeliveryDetailOutput(DeliveryOutput):
    """With the body as it is sent, and every try."""

    body = serializers.CharField()
    tries = AttemptOutput(many=True)


class DeliveryListOutput(serializers.Serializer[Any]):
    """One page, newest first."""

    deliveries = DeliveryOutput(many=True)
    nextCursor = serializers.CharField(allow_null=True)


class _NoticeView(TenantView):
    scope_area = "alerts"

    def actor(self) -> Actor:
        """The caller."""
        return Actor(self.principal.tenant_id, self.principal.actor, clock.now())

    def validated(self, serializer: type[StrictSerializer], request: Request) -> dict[str, Any]:
        """The body, checked, without the tenant it may name."""
        self.check_tenant(request.data)
        body = serializer(data=request.data or {})
        body.is_valid(raise_exception=True)
        return {name: v for name, v in body.validated_data.items() if name != "tenantId"}


class EndpointsView(_NoticeView):
    """The tenant's endpoints."""

    @extend_schema(
        operation_id="listWebhookEndpoints",
        responses=EndpointOutput(many=True),
        tags=["Webhooks"],
    )
    def get(self, request: Request) -> Response:
        """A bare array, oldest first."""
        self.check_tenant()
        found = reads.webhook_endpoints(tenant_id=self.principal.tenant_id)
        return Response(EndpointOutput(found, many=True).data)

    @extend_schema(
        operation_id="createWebhookEndpoint",
        request=NewEndpoint,
        responses={201: EndpointSecretOutput},
        tags=["Webhooks"],
    )
    def post(self, request: Request) -> Response:
        """Register an address; the answer holds the signing secret, this once."""
        values = self.validated(NewEndpoint, request)
        endpoint, secret = endpoints.create_endpoint(actor=self.actor(), **values)
        return Response({**EndpointOutput(endpoint).data, "secret": secret}, status=201)


class EndpointView(_NoticeView):
    """One endpoint."""

    @extend_schema(operation_id="getWebhookEndpoint", responses=EndpointOutput, tags=["Webhooks"])
    def get(self, request: Request, endpoint_id: str) -> Response:
        """The endpoint."""
        self.check_tenant()
        found = reads.webhook_endpoint(
            tenant_id=self.principal.tenant_id, endpoint_id=uuid_of(endpoint_id)
        )
        return Response(EndpointOutput(found).data)

    @extend_schema(
        operation_id="updateWebhookEndpoint",
        request=EndpointChanges,
        responses=EndpointOutput,
        tags=["Webhooks"],
    )
    def put(self, request: Request, endpoint_id: str) -> Response:
        """Change it; switching it off cancels what waits for it."""
        changes = self.validated(EndpointChanges, request)
        endpoint = endpoints.update_endpoint(
            actor=self.actor(), endpoint_id=uuid_of(endpoint_id), changes=changes
        )
        return Response(EndpointOutput(endpoint).data)

    @extend_schema(operation_id="deleteWebhookEndpoint", responses={204: None}, tags=["Webhooks"])
    def delete(self, request: Request, endpoint_id: str) -> Response:
        """Nothing more is sent there; the log stays."""
        self.check_tenant()
        endpoints.delete_endpoint(actor=self.actor(), endpoint_id=uuid_of(endpoint_id))
        return Response(status=204)


class RotateEndpointView(_NoticeView):
    """A new secret."""

    @extend_schema(
        operation_id="rotateWebhookSecret",
        request=RotateInput,
        responses=EndpointSecretOutput,
        tags=["Webhooks"],
    )
    def post(self, request: Request, endpoint_id: str) -> Response:
        """Rotate the secret; for a while messages carry both signatures."""
        seconds = self.validated(RotateInput, request).get("overlapSeconds")
        overlap = endpoints.OVERLAP if seconds is None else timedelta(seconds=seconds)
        endpoint, secret = endpoints.rotate_secret(
            actor=self.actor(), endpoint_id=uuid_of(endpoint_id), overlap=overlap
        )
        return Response({**EndpointOutput(endpoint).data, "secret": secret})


class TestEndpointView(_NoticeView):
    """A message to try the endpoint."""

    __test__ = False

    @extend_schema(
        operation_id="testWebhookEndpoint",
        request=NothingInput,
        responses={202: DeliveryOutput},
        tags=["Webhooks"],
    )
    def post(self, request: Request, endpoint_id: str) -> Response:
        """Send ``webhook.test`` there, also while it is switched off."""
        self.validated(NothingInput, request)
        delivery = endpoints.send_test(actor=self.actor(), endpoint_id=uuid_of(endpoint_id))
        return Response(DeliveryOutput(delivery).data, status=202)


class DeliveriesView(_NoticeView):
    """The delivery log."""

    @extend_schema(
        operation_id="listWebhookDeliveries",
        parameters=[
            OpenApiParameter("endpointId", str),
            OpenApiParameter("status", str, enum=list(STATUSES)),
            OpenApiParameter("limit", int, description="1 to 100; 50 if absent"),
            OpenApiParameter("cursor", str),
        ],
        responses=DeliveryListOutput,
        tags=["Webhooks"],
    )
    def get(self, request: Request) -> Response:
        """One page, newest first, mails and Slack messages included."""
        self.check_tenant()
        status = query_choice(request, "status", "", ("", *STATUSES))
        endpoint = query_text(request, "endpointId")
        limit = query_int(request, "limit", 50, low=1, high=100)
        scope: dict[str, Any] = {
            "tenant_key": self.principal.tenant_key,
            "listing": "deliveries",
            "filters": {"status": status, "endpointId": endpoint},
        }
        cursor = query_text(request, "cursor")
        found = reads.deliveries(
            tenant_id=self.principal.tenant_id,
            endpoint_id=uuid_of(endpoint) if endpoint else None,
            status=status,
            after=UUID(cursors.decode(cursor, **scope)) if cursor else None,
        )
        page = list(found[: limit + 1])
        following = cursors.encode(page[limit - 1].pk.hex, **scope) if len(page) > limit else None
        shown = DeliveryOutput(page[:limit], many=True).data
        return Response({"deliveries": shown, "nextCursor": following})


class DeliveryView(_NoticeView):
    """One delivery."""

    @extend_schema(
        operation_id="getWebhookDelivery", responses=DeliveryDetailOutput, tags=["Webhooks"]
    )
    def get(self, request: Request, delivery_id: str) -> Response:
        """The message, and every try with what the receiver said."""
        self.check_tenant()
        found = reads.delivery(tenant_id=self.principal.tenant_id, delivery_id=uuid_of(delivery_id))
        tries = AttemptOutput(found.tries.order_by("number"), many=True).data
        return Response({**DeliveryOutput(found).data, "body": found.body, "tries": tries})


class RedeliverView(_NoticeView):
    """Once more."""

    @extend_schema(
        operation_id="redeliverWebhook",
        request=NothingInput,
        responses={202: DeliveryOutput},
        tags=["Webhooks"],
    )
    def post(self, request: Request, delivery_id: str) -> Response:
        """Send the message again, with the same id, as a new delivery."""
        self.validated(NothingInput, request)
        actor = self.actor()
        new = deliveries.redeliver(
            tenant_id=actor.tenant_id,
            delivery_id=uuid_of(delivery_id),
            actor=actor.name,
            now=actor.now,
        )
        return Response(DeliveryOutput(new).data, status=202)
