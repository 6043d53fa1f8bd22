"""``/v1/mappings``: which metric is billed by which Stripe price."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import ids, selectors
from billing.models import PriceMapping
from billing.services import mappings
from billing.tasks import wake_prices
from stripemeter.lib import clock
from stripemeter.lib.drf import (
    ExactDecimalField,
    FlagField,
    InstantField,
    MetricField,
    StrictSerializer,
    TextField,
    WholeField,
    query_choice,
    query_text,
)
from stripemeter.lib.errors import NotFound, ProblemError
from stripemeter.tenancy.api_base import TenantView


class StripeIdField(TextField):
    """An id of Stripe, of one kind."""

    def __init__(self, pattern: Any, **kwargs: Any) -> None:
        self.pattern = pattern
        kwargs.setdefault("max_length", 70)
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> str:
        """The id itself."""
        found = super().to_internal_value(data)
        if not self.pattern.fullmatch(found):
            raise serializers.ValidationError(
                f"must match {self.pattern.pattern}", code="invalid_stripe_id"
            )
        return found


class ChoiceText(TextField):
    """One of a few words; a JSON string, never a list."""

    def __init__(self, choices: tuple[str, ...], **kwargs: Any) -> None:
        self.choices = choices
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> str:
        """The word itself."""
        found = super().to_internal_value(data)
        if found not in self.choices:
            raise serializers.ValidationError(
                f"must be one of {', '.join(self.choices)}", code="invalid_choice"
            )
        return found


class CurrencyField(TextField):
    """A currency code in either case; kept in lower case."""

    def to_internal_value(self, data: Any) -> str:
        """The code in lower case."""
        found = super().to_internal_value(data).lower()
        if found not in ids.CURRENCIES:
            raise serializers.ValidationError(
                "must be a currency that Stripe knows", code="invalid_currency"
            )
        return found


AGGREGATIONS = tuple(PriceMapping.Aggregation.values)
SEMANTICS = tuple(PriceMapping.Semantics.values)


class _Terms(StrictSerializer):
    """What both a new and a changed mapping may say."""

    tenantId = TextField(required=False)
    subscriptionItemId = StripeIdField(
        ids.SUBSCRIPTION_ITEM, required=False, allow_null=True, source="subscription_item_id"
    )
    currency = CurrencyField(required=False, allow_null=True)
    active = FlagField(required=False)
    shadow = FlagField(required=False)
    shadowStripeAccount = StripeIdField(
        ids.ACCOUNT, required=False, allow_null=True, source="shadow_stripe_account"
    )
    shadowPriceId = StripeIdField(
        ids.PRICE, required=False, allow_null=True, source="shadow_price_id"
    )
    shadowSubscriptionItemId = StripeIdField(
        ids.SUBSCRIPTION_ITEM,
        required=False,
        allow_null=True,
        source="shadow_subscription_item_id",
    )
    stripeMeterEventName = TextField(
        required=False, allow_null=True, max_length=100, source="stripe_meter_event_name"
    )
    pushSemantics = ChoiceText(SEMANTICS, required=False, source="push_semantics")
    effectiveFrom = InstantField(required=False, allow_null=True, source="effective_from")
    effectiveTo = InstantField(required=False, allow_null=True, source="effective_to")
    unitFactor = ExactDecimalField(required=False, digits_max=12, source="unit_factor")
    valueDecimals = WholeField(required=False, min_value=0, max_value=12, source="value_decimals")
    localPrice = serializers.DictField(required=False, allow_null=True, source="local_price")

    def validate_unitFactor(self, value: Any) -> Any:  # noqa: N802  the wire name
        """Factors are positive."""
        if value <= 0:
            raise serializers.ValidationError("must be greater than 0", code="out_of_range")
        return value


class NewMapping(_Terms):
    """A new mapping."""

    metric = MetricField(max_length=100)
    aggregation = ChoiceText(AGGREGATIONS)
    stripeAccount = StripeIdField(ids.ACCOUNT, source="stripe_account")
    priceId = StripeIdField(ids.PRICE, source="price_id")


class MappingChanges(_Terms):
    """Changes of a mapping; metric and tenant are fixed."""

    aggregation = ChoiceText(AGGREGATIONS, required=False)
    stripeAccount = StripeIdField(ids.ACCOUNT, required=False, source="stripe_account")
    priceId = StripeIdField(ids.PRICE, required=False, source="price_id")


class MappingOutput(serializers.Serializer[Any]):
    """A mapping as stored."""

    id = serializers.UUIDField()
    tenantId = serializers.CharField(source="tenant.key")
    metric = serializers.CharField(source="metric.name")
    aggregation = serializers.CharField()
    stripeAccount = serializers.CharField(source="stripe_account")
    priceId = serializers.CharField(source="price_id")
    subscriptionItemId = serializers.CharField(source="subscription_item_id", allow_null=True)
    currency = serializers.CharField(allow_null=True)
    active = serializers.BooleanField()
    shadow = serializers.BooleanField()
    shadowStripeAccount = serializers.CharField(source="shadow_stripe_account", allow_null=True)
    shadowPriceId = serializers.CharField(source="shadow_price_id", allow_null=True)
    shadowSubscriptionItemId = serializers.CharField(
        source="shadow_subscription_item_id", allow_null=True
    )
    stripeMeterEventName = serializers.SerializerMethodField()
    pushSemantics = serializers.CharField(source="push_semantics")
    effectiveFrom = InstantField(source="effective_from", allow_null=True)
    effectiveTo = InstantField(source="effective_to", allow_null=True)
    unitFactor = ExactDecimalField(source="unit_factor")
    valueDecimals = serializers.IntegerField(source="value_decimals")
    localPrice = serializers.DictField(source="local_price", allow_null=True)
    version = serializers.IntegerField()
    createdAt = InstantField(source="created_at")
    updatedAt = InstantField(source="updated_at")
    endedAt = InstantField(source="ended_at", allow_null=True)

    def get_stripeMeterEventName(self, mapping: PriceMapping) -> str:  # noqa: N802
        """The event name in force: the mapping's own or the metric's."""
        return mapping.stripe_meter_event_name or mapping.metric.name


class MappingsView(TenantView):
    """The tenant's mappings."""

    scope_area = "mappings"

    @extend_schema(
        operation_id="listMappings",
        parameters=[
            OpenApiParameter("tenantId", str),
            OpenApiParameter("active", bool),
            OpenApiParameter("metric", str),
        ],
        responses=MappingOutput(many=True),
        tags=["Mappings"],
    )
    def get(self, request: Request) -> Response:
        """A bare array, oldest first; deleted mappings are left out."""
        self.check_tenant()
        active = query_choice(request, "active", "", ("", "true", "false"))
        found = selectors.mappings(
            tenant_id=self.principal.tenant_id,
            metric=query_text(request, "metric"),
            active=None if active == "" else active == "true",
        )
        return Response(MappingOutput(found, many=True).data)

    @extend_schema(
        operation_id="createMapping",
        request=NewMapping,
        responses={201: MappingOutput},
        tags=["Mappings"],
    )
    def post(self, request: Request) -> Response:
        """Create a mapping; 409 if another active one covers the same time."""
        self.check_tenant(request.data)
        values = NewMapping(data=request.data)
        values.is_valid(raise_exception=True)
        fields = dict(values.validated_data)
        fields.pop("tenantId", None)
        mapping = mappings.create_mapping(
            actor=_actor(self), metric=fields.pop("metric"), values=fields
        )
        wake_prices()
        return _answer(mapping, status=201)


class MappingView(TenantView):
    """One mapping."""

    scope_area = "mappings"

    @extend_schema(operation_id="readMapping", responses=MappingOutput, tags=["Mappings"])
    def get(self, request: Request, mapping_id: str) -> Response:
        """The mapping, also after it was deleted; its version is the ETag."""
        self.check_tenant()
        found = selectors.mapping(
            tenant_id=self.principal.tenant_id, mapping_id=uuid_of(mapping_id)
        )
        if found is None:
            raise NotFound("No such mapping")
        return _answer(found)

    @extend_schema(
        operation_id="updateMapping",
        request=MappingChanges,
        responses=MappingOutput,
        parameters=[OpenApiParameter("If-Match", str, location="header")],
        tags=["Mappings"],
    )
    def put(self, request: Request, mapping_id: str) -> Response:
        """Change the fields named; If-Match refuses to overwrite a newer version."""
        self.check_tenant(request.data)
        values = MappingChanges(data=request.data)
        values.is_valid(raise_exception=True)
        fields = dict(values.validated_data)
        fields.pop("tenantId", None)
        mapping = mappings.update_mapping(
            actor=_actor(self),
            mapping_id=uuid_of(mapping_id),
            changes=fields,
            version=_version(request),
        )
        wake_prices()
        return _answer(mapping)

    @extend_schema(operation_id="deleteMapping", responses={204: None}, tags=["Mappings"])
    def delete(self, request: Request, mapping_id: str) -> Response:
        """Delete, softly: nothing new is pushed, history stays."""
        self.check_tenant()
        mappings.end_mapping(actor=_actor(self), mapping_id=uuid_of(mapping_id))
        return Response(status=204)


def _actor(view: TenantView) -> mappings.Actor:
    return mappings.Actor(view.principal.tenant_id, view.principal.actor, clock.now())


def _answer(mapping: PriceMapping, *, status: int = 200) -> Response:
    response = Response(MappingOutput(mapping).data, status=status)
    response["ETag"] = f'"{mapping.version}"'
    return response


def uuid_of(text: str) -> UUID:
    """The id in a path. Raises `NotFound` for what cannot be one."""
    try:
        return UUID(text)
    except ValueError as error:
        raise NotFound("No such object") from error


def _version(request: Request) -> int | None:
    raw = request.headers.get("If-Match")
    if raw is None or raw.strip() == "*":
        return None
    digits = raw.strip().removeprefix("W/").strip('"')
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 9):
        raise ProblemError(
            "If-Match does not name a version of this mapping.",
            code="stale_version",
            status=412,
            title="Precondition failed",
        )
    return int(digits)
