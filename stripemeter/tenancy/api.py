"""API keys over the API: create, list, read, rotate, revoke. Secrets are shown once."""

from datetime import timedelta
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from stripemeter.lib import clock, cursors
from stripemeter.lib.drf import (
    InstantField,
    StrictSerializer,
    TextField,
    WholeField,
    query_int,
    query_text,
)
from stripemeter.tenancy import selectors, services
from stripemeter.tenancy.api_base import TenantView
from stripemeter.tenancy.models import ApiKey
from stripemeter.tenancy.scopes import ALL_SCOPES, DEFAULT_SCOPES

PAGE_DEFAULT, PAGE_MAX = 50, 100
OVERLAP_DEFAULT_SECONDS = 24 * 3600


class ApiKeyOutput(serializers.Serializer[Any]):
    """What is ever shown of a key: never its secret, hash or internal number."""

    id = serializers.CharField(source="lookup")
    tenantId = serializers.CharField(source="tenant.key")
    name = serializers.CharField()
    prefix = serializers.CharField()
    scopes = serializers.ListField(child=serializers.CharField())
    status = serializers.SerializerMethodField()
    createdBy = serializers.CharField(source="created_by")
    createdAt = InstantField(source="created_at")
    expiresAt = InstantField(source="expires_at", allow_null=True)
    revokedAt = InstantField(source="revoked_at", allow_null=True)
    lastUsedAt = InstantField(source="last_used_at", allow_null=True)
    rotatedFrom = serializers.CharField(source="rotated_from.lookup", allow_null=True, default=None)

    def get_status(self, key: ApiKey) -> str:
        """``active``, ``expired`` or ``revoked``."""
        return key.status(self.context["now"])


class NewApiKeyOutput(serializers.Serializer[Any]):
    """A key just made; ``apiKey`` is its plaintext, shown this once."""

    apiKey = serializers.CharField()
    key = ApiKeyOutput()


class RevokedApiKeyOutput(serializers.Serializer[Any]):
    """The key after it was revoked."""

    key = ApiKeyOutput()


class ApiKeyListOutput(serializers.Serializer[Any]):
    """One page, newest first; ``nextCursor`` is null on the last."""

    apiKeys = ApiKeyOutput(many=True)
    nextCursor = serializers.CharField(allow_null=True)


def shown(key: ApiKey, *, now: Any) -> dict[str, Any]:
    """``key`` as the wire shows it."""
    return dict(ApiKeyOutput(key, context={"now": now}).data)


class ApiKeysView(TenantView):
    """The tenant's keys."""

    class Input(StrictSerializer):
        """A new key. Scopes must lie within those of the asking key."""

        tenantId = TextField(required=False)
        name = TextField(max_length=200, min_length=1, required=False, default="New API Key")
        projectId = TextField(
            required=False,
            allow_null=True,
            help_text="Older callers send it; there are no projects, and it means nothing.",
        )
        scopes = serializers.ListField(
            child=TextField(max_length=40),
            max_length=len(ALL_SCOPES),
            allow_empty=False,
            required=False,
        )
        expiresAt = InstantField(required=False, allow_null=True, default=None)

    @extend_schema(
        operation_id="listApiKeys",
        parameters=[
            OpenApiParameter(
                "limit", int, description=f"1 to {PAGE_MAX}; {PAGE_DEFAULT} if absent"
            ),
            OpenApiParameter("cursor", str, description="nextCursor of the page before"),
        ],
        responses=ApiKeyListOutput,
        tags=["API keys"],
    )
    def get(self, request: Request) -> Response:
        """List keys, newest first."""
        self.check_tenant()
        limit = query_int(request, "limit", PAGE_DEFAULT, low=1, high=PAGE_MAX)
        bound = {"tenant_key": self.principal.tenant_key, "listing": "api-keys", "filters": {}}
        cursor = query_text(request, "cursor")
        before = int(cursors.decode(cursor, **bound)) if cursor else None  # type: ignore[arg-type]
        found = selectors.api_keys(
            tenant_id=self.principal.tenant_id, before_id=before, limit=limit + 1
        )
        more = found[limit:]
        now = clock.now()
        return Response(
            {
                "apiKeys": [shown(key, now=now) for key in found[:limit]],
                "nextCursor": cursors.encode(found[limit - 1].pk, **bound) if more else None,  # type: ignore[arg-type]
            }
        )

    @extend_schema(
        operation_id="createApiKey",
        description=f"Scopes default to {', '.join(DEFAULT_SCOPES)}.",
        request=Input,
        responses={201: NewApiKeyOutput},
        tags=["API keys"],
    )
    def post(self, request: Request) -> Response:
        """Create a key; the answer is the only place its plaintext ever appears."""
        self.check_tenant(request.data)
        values = self.Input(data=request.data)
        values.is_valid(raise_exception=True)
        now = clock.now()
        key, plaintext = services.create_api_key(
            tenant_id=self.principal.tenant_id,
            name=values.validated_data["name"],
            actor=self.principal.actor,
            now=now,
            scopes=values.validated_data.get("scopes"),
            expires_at=values.validated_data["expiresAt"],
            live=self.principal.is_live,
            held=self.principal.scopes,
        )
        return Response({"apiKey": plaintext, "key": shown(key, now=now)}, status=201)


class ApiKeyView(TenantView):
    """One key."""

    @extend_schema(
        operation_id="getApiKey",
        responses=ApiKeyOutput,
        tags=["API keys"],
    )
    def get(self, request: Request, key_id: str) -> Response:
        """Read one key."""
        self.check_tenant()
        key = selectors.api_key(tenant_id=self.principal.tenant_id, lookup=key_id)
        return Response(shown(key, now=clock.now()))


class RotateApiKeyView(TenantView):
    """Replace a key by a successor."""

    class Input(StrictSerializer):
        """How long the old key goes on working: 24 h if absent, 0 ends it at once."""

        tenantId = TextField(required=False)
        overlapSeconds = WholeField(
            min_value=0,
            max_value=int(services.OVERLAP_MAX.total_seconds()),
            required=False,
            default=OVERLAP_DEFAULT_SECONDS,
        )

    @extend_schema(
        operation_id="rotateApiKey",
        request=Input,
        responses=NewApiKeyOutput,
        tags=["API keys"],
    )
    def post(self, request: Request, key_id: str) -> Response:
        """Rotate a key; answer the successor's plaintext, this once."""
        self.check_tenant(request.data)
        values = self.Input(data=request.data or {})
        values.is_valid(raise_exception=True)
        now = clock.now()
        key, plaintext = services.rotate_api_key(
            tenant_id=self.principal.tenant_id,
            lookup=key_id,
            actor=self.principal.actor,
            now=now,
            overlap=timedelta(seconds=values.validated_data["overlapSeconds"]),
            held=self.principal.scopes,
        )
        return Response({"apiKey": plaintext, "key": shown(key, now=now)})


class RevokeApiKeyView(TenantView):
    """End a key for good."""

    class Input(StrictSerializer):
        """Nothing needs to be said."""

        tenantId = TextField(required=False)

    @extend_schema(
        operation_id="revokeApiKey",
        request=Input,
        responses=RevokedApiKeyOutput,
        tags=["API keys"],
    )
    def post(self, request: Request, key_id: str) -> Response:
        """Revoke a key; it stops working everywhere within five seconds."""
        self.check_tenant(request.data)
        self.Input(data=request.data or {}).is_valid(raise_exception=True)
        now = clock.now()
        key = services.revoke_api_key(
            tenant_id=self.principal.tenant_id, lookup=key_id, actor=self.principal.actor, now=now
        )
        return Response({"key": shown(key, now=now)})
