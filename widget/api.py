"""``/v1/widget/sessions``: tokens for the customers' widget, minted by the tenant's server."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from stripemeter.lib import clock, cursors
from stripemeter.lib.drf import (
    InstantField,
    MetricField,
    ReferenceField,
    StrictSerializer,
    TextField,
    WholeField,
    query_int,
    query_text,
)
from stripemeter.lib.errors import NotFound
from stripemeter.tenancy.api_base import TenantView
from widget.models import WidgetSession
from widget.services import sessions

PAGE_DEFAULT, PAGE_MAX = 50, 100


class SessionInput(StrictSerializer):
    """For whom, in which origins, for how long."""

    tenantId = TextField(required=False)
    customerRef = ReferenceField()
    origins = serializers.ListField(
        child=TextField(max_length=255), min_length=1, max_length=sessions.ORIGINS_MAX
    )
    ttlSeconds = WholeField(
        min_value=1, max_value=int(sessions.LIFETIME_MAX.total_seconds()), required=False
    )
    metrics = serializers.ListField(
        child=MetricField(), max_length=sessions.METRICS_MAX, required=False, allow_null=True
    )


class SessionOutput(serializers.Serializer[Any]):
    """A session; its token is shown once, when minted."""

    id = serializers.UUIDField()
    customerRef = serializers.CharField(source="customer_ref")
    origins = serializers.ListField(child=serializers.CharField())
    metrics = serializers.ListField(child=serializers.CharField(), allow_null=True)
    createdBy = serializers.CharField(source="created_by")
    createdAt = InstantField(source="created_at")
    expiresAt = InstantField(source="expires_at")
    revokedAt = InstantField(source="revoked_at", allow_null=True)


class MintedOutput(SessionOutput):
    """A new session with its token and the address of the page."""

    token = serializers.CharField()
    embedUrl = serializers.CharField()


class SessionListOutput(serializers.Serializer[Any]):
    """One page, newest first."""

    sessions = SessionOutput(many=True)
    nextCursor = serializers.CharField(allow_null=True)


class SessionsView(TenantView):
    """The tenant's widget sessions."""

    required_scopes = ("widget:mint",)

    @extend_schema(
        operation_id="mintWidgetSession",
        request=SessionInput,
        responses={201: MintedOutput},
        tags=["Widget"],
    )
    def post(self, request: Request) -> Response:
        """Mint a token of at most 15 minutes for one customer and named origins."""
        self.check_tenant(request.data)
        body = SessionInput(data=request.data)
        body.is_valid(raise_exception=True)
        data = body.validated_data
        seconds = data.get("ttlSeconds")
        minted = sessions.mint_session(
            principal=self.principal,
            customer_ref=data["customerRef"],
            origins=data["origins"],
            lifetime=timedelta(seconds=seconds) if seconds else sessions.LIFETIME_DEFAULT,
            metrics=data.get("metrics"),
            now=clock.now(),
        )
        shown = {
            **SessionOutput(minted.session).data,
            "token": minted.token,
            "embedUrl": f"{settings.PUBLIC_URL}/widget/embed",
        }
        return Response(shown, status=201)

    @extend_schema(
        operation_id="listWidgetSessions",
        parameters=[
            OpenApiParameter("customerRef", str),
            OpenApiParameter("limit", int),
            OpenApiParameter("cursor", str),
        ],
        responses=SessionListOutput,
        tags=["Widget"],
    )
    def get(self, request: Request) -> Response:
        """Sessions minted, newest first; expired and revoked ones included."""
        self.check_tenant()
        limit = query_int(request, "limit", PAGE_DEFAULT, low=1, high=PAGE_MAX)
        customer = query_text(request, "customerRef")
        scope = {"tenant_key": self.principal.tenant_key, "listing": "widget-sessions"}
        filters = {"customerRef": customer}
        found = WidgetSession.objects.filter(tenant_id=self.principal.tenant_id)
        if customer:
            found = found.filter(customer_ref=customer)
        cursor = query_text(request, "cursor")
        if cursor:
            found = found.filter(pk__lt=UUID(cursors.decode(cursor, filters=filters, **scope)))
        page = list(found.order_by("-pk")[: limit + 1])
        more = len(page) > limit
        page = page[:limit]
        following = cursors.encode(page[-1].pk.hex, filters=filters, **scope) if more else None
        return Response({"sessions": SessionOutput(page, many=True).data, "nextCursor": following})


class TokensView(SessionsView):
    """The same under the predecessor's path; the API's description names it once."""

    schema = None


class SessionView(TenantView):
    """One session."""

    required_scopes = ("widget:mint",)

    @extend_schema(
        operation_id="revokeWidgetSession", responses={200: SessionOutput}, tags=["Widget"]
    )
    def delete(self, request: Request, session_id: str) -> Response:
        """Revoke the session: its token stops working with the next request."""
        self.check_tenant()
        try:
            wanted = UUID(session_id)
        except ValueError as error:
            raise NotFound("No such widget session") from error
        session = sessions.revoke_session(
            principal=self.principal, session_id=wanted, now=clock.now()
        )
        return Response(SessionOutput(session).data)
