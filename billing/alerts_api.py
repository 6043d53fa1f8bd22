"""``/v1/alerts``: rules, what they found, and the notices given of it."""

from decimal import Decimal
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.mappings_api import ChoiceText, uuid_of
from billing.models import AlertEvent, AlertRule, AlertState
from billing.selectors_alerts import alert_events, alert_rules, alert_states
from billing.services import alert_rules as rule_writes
from billing.services import alert_states as state_writes
from billing.services.mappings import Actor
from billing.tasks import wake_alerts
from stripemeter.lib import clock
from stripemeter.lib.drf import (
    ExactDecimalField,
    FlagField,
    InstantField,
    MetricField,
    ReferenceField,
    StrictSerializer,
    TextField,
    query_choice,
    query_instant,
    query_int,
    query_text,
)
from stripemeter.lib.errors import NotFound
from stripemeter.tenancy.api_base import TenantView

TYPES, ACTIONS = tuple(AlertRule.Type.values), tuple(AlertRule.Action.values)
STATUSES = tuple(AlertState.Status.values)
SEVERITIES = tuple(AlertState.Severity.values)
EVENTS_DEFAULT, EVENTS_MAX = 100, 1_000
_SORTS = {"customerRef": "customer_ref", "metric": "metric", "createdAt": "created_at"}
_TENANT = OpenApiParameter("tenantId", str)


class NewAlert(StrictSerializer):
    """A rule. Without customerRef or metric it is a default of the tenant."""

    tenantId = TextField(required=False)
    customerRef = ReferenceField(required=False, allow_null=True, source="customer_ref")
    metric = MetricField(required=False, allow_null=True)
    type = ChoiceText(TYPES)
    threshold = ExactDecimalField(low=Decimal(0))
    action = ChoiceText(ACTIONS)
    config = serializers.DictField(required=False)
    enabled = FlagField(required=False)


class AlertChanges(StrictSerializer):
    """What may change; scope and type are fixed."""

    tenantId = TextField(required=False)
    threshold = ExactDecimalField(required=False, low=Decimal(0))
    action = ChoiceText(ACTIONS, required=False)
    config = serializers.DictField(required=False)
    enabled = FlagField(required=False)


class AlertOutput(serializers.Serializer[Any]):
    """A rule as stored."""

    id = serializers.UUIDField()
    tenantId = serializers.CharField(source="tenant.key")
    customerRef = serializers.CharField(source="customer_ref", allow_null=True)
    metric = serializers.CharField(source="metric.name", allow_null=True, default=None)
    type = serializers.CharField()
    threshold = ExactDecimalField()
    action = serializers.CharField()
    config = serializers.DictField()
    enabled = serializers.BooleanField()
    createdAt = InstantField(source="created_at")
    updatedAt = InstantField(source="updated_at")


class AlertEventOutput(serializers.Serializer[Any]):
    """One notice: ``kind`` says which, ``status`` where the state then stood."""

    id = serializers.UUIDField()
    alertConfigId = serializers.UUIDField(source="rule_id")
    stateId = serializers.UUIDField(source="state_id")
    tenantId = serializers.CharField(source="tenant.key")
    customerRef = serializers.CharField(source="customer_ref")
    metric = serializers.SerializerMethodField()
    kind = serializers.CharField()
    value = ExactDecimalField()
    threshold = ExactDecimalField()
    action = serializers.CharField()
    status = serializers.CharField()
    triggeredAt = InstantField(source="triggered_at")
    acknowledgedAt = InstantField(source="acknowledged_at", allow_null=True)
    resolvedAt = InstantField(source="resolved_at", allow_null=True)
    recordedAt = InstantField(source="recorded_at")

    def get_metric(self, event: AlertEvent) -> str | None:
        """None where the rule watches the whole bill."""
        return event.metric or None


class AlertStateOutput(serializers.Serializer[Any]):
    """A state with the numbers it was triggered by."""

    id = serializers.UUIDField()
    tenantId = serializers.CharField(source="tenant.key")
    metric = serializers.SerializerMethodField()
    customerRef = serializers.CharField(source="customer_ref")
    alertConfigId = serializers.UUIDField(source="rule_id")
    status = serializers.CharField()
    severity = serializers.CharField()
    title = serializers.CharField()
    description = serializers.CharField()
    value = ExactDecimalField()
    threshold = ExactDecimalField()
    action = serializers.CharField()
    metadata = serializers.CharField()
    periodStart = InstantField(source="bucket_start", allow_null=True)
    periodEnd = InstantField(source="bucket_end", allow_null=True)
    revised = serializers.BooleanField(source="withdrawn")
    snoozedUntil = InstantField(source="snoozed_until", allow_null=True)
    acknowledgedAt = InstantField(source="acknowledged_at", allow_null=True)
    resolvedAt = InstantField(source="resolved_at", allow_null=True)
    createdAt = InstantField(source="created_at")
    updatedAt = InstantField(source="updated_at")

    def get_metric(self, state: AlertState) -> str | None:
        """None where the rule watches the whole bill."""
        return state.metric or None


class AlertStateListOutput(serializers.Serializer[Any]):
    """One page; ``total`` counts all that match."""

    total = serializers.IntegerField()
    alertStates = AlertStateOutput(many=True)


class NewAlertState(StrictSerializer):
    """A state that a caller reports, for a rule of the tenant."""

    tenantId = TextField(required=False)
    metric = MetricField()
    customerRef = ReferenceField(source="customer_ref")
    title = TextField(min_length=1)
    alertConfigId = serializers.UUIDField()
    value = ExactDecimalField()
    threshold = ExactDecimalField(low=Decimal(0))
    action = ChoiceText(ACTIONS)
    severity = ChoiceText(SEVERITIES, required=False, default="info")
    description = TextField(max_length=2_000, required=False, allow_blank=True, default="")


class AlertStateChanges(StrictSerializer):
    """Where the state stands now; the rest is kept where it is not given."""

    tenantId = TextField(required=False)
    status = ChoiceText(STATUSES)
    value = ExactDecimalField(required=False)
    threshold = ExactDecimalField(required=False, low=Decimal(0))
    action = ChoiceText(ACTIONS, required=False)
    metadata = TextField(max_length=2_000, required=False, allow_blank=True)
    snoozedUntil = InstantField(required=False, source="snoozed_until")


class DeletedOutput(serializers.Serializer[Any]):
    """It is gone."""

    ok = serializers.BooleanField()


class _AlertView(TenantView):
    scope_area = "alerts"

    def actor(self) -> Actor:
        """The caller."""
        return Actor(self.principal.tenant_id, self.principal.actor, clock.now())

    def validated(self, serializer: type[StrictSerializer], request: Request) -> dict[str, Any]:
        """The body, checked, without the tenant it may name."""
        self.check_tenant(request.data)
        body = serializer(data=request.data)
        body.is_valid(raise_exception=True)
        return {name: v for name, v in body.validated_data.items() if name != "tenantId"}


class AlertsView(_AlertView):
    """The tenant's rules."""

    @extend_schema(
        operation_id="listAlerts",
        parameters=[
            _TENANT,
            OpenApiParameter("customerRef", str),
            OpenApiParameter("enabled", bool),
        ],
        responses=AlertOutput(many=True),
        tags=["Alerts"],
    )
    def get(self, request: Request) -> Response:
        """A bare array, oldest first."""
        self.check_tenant()
        enabled = query_choice(request, "enabled", "", ("", "true", "false"))
        found = alert_rules(
            tenant_id=self.principal.tenant_id,
            customer_ref=query_text(request, "customerRef"),
            enabled=None if enabled == "" else enabled == "true",
        )
        return Response(AlertOutput(found, many=True).data)

    @extend_schema(
        operation_id="createAlert",
        request=NewAlert,
        responses={201: AlertOutput},
        tags=["Alerts"],
    )
    def post(self, request: Request) -> Response:
        """Create a rule; usage that already reaches it speaks at once."""
        values = self.validated(NewAlert, request)
        rule = rule_writes.create_rule(
            actor=self.actor(), metric=values.pop("metric", None), values=values
        )
        wake_alerts()
        return Response(_shown(rule), status=201)


def _shown(rule: AlertRule) -> dict[str, Any]:
    return AlertOutput(rule).data


class AlertView(_AlertView):
    """One rule."""

    @extend_schema(
        operation_id="updateAlert", request=AlertChanges, responses=AlertOutput, tags=["Alerts"]
    )
    def put(self, request: Request, alert_id: str) -> Response:
        """Change threshold, action, config or enabled; another threshold speaks anew."""
        changes = self.validated(AlertChanges, request)
        rule = rule_writes.update_rule(
            actor=self.actor(), rule_id=uuid_of(alert_id), changes=changes
        )
        wake_alerts()
        return Response(_shown(rule))

    @extend_schema(operation_id="deleteAlert", responses={204: None}, tags=["Alerts"])
    def delete(self, request: Request, alert_id: str) -> Response:
        """Delete, softly: it says nothing more, what it said stays."""
        self.check_tenant()
        rule_writes.delete_rule(actor=self.actor(), rule_id=uuid_of(alert_id))
        return Response(status=204)


_EVENT_PARAMETERS = [
    _TENANT,
    OpenApiParameter("customerRef", str),
    OpenApiParameter("status", str, enum=list(STATUSES)),
    OpenApiParameter("from", str, description="RFC 3339, included"),
    OpenApiParameter("to", str, description="RFC 3339, included"),
    OpenApiParameter("limit", int, description="1 to 1000; 100 if absent"),
]


class AlertEventsView(_AlertView):
    """Every notice."""

    @extend_schema(
        operation_id="listAlertEvents",
        parameters=_EVENT_PARAMETERS,
        responses=AlertEventOutput(many=True),
        tags=["Alerts"],
    )
    def get(self, request: Request) -> Response:
        """A bare array, newest first."""
        self.check_tenant()
        found = alert_events(
            tenant_id=self.principal.tenant_id,
            customer_ref=query_text(request, "customerRef"),
            status=query_choice(request, "status", "", ("", *STATUSES)),
            since=query_instant(request, "from"),
            until=query_instant(request, "to"),
            limit=query_int(request, "limit", EVENTS_DEFAULT, low=1, high=EVENTS_MAX),
        )
        return Response(AlertEventOutput(found, many=True).data)


class AlertHistoryView(AlertEventsView):
    """The same under its other name."""

    @extend_schema(
        operation_id="listAlertHistory",
        parameters=_EVENT_PARAMETERS,
        responses=AlertEventOutput(many=True),
        tags=["Alerts"],
    )
    def get(self, request: Request) -> Response:
        """A bare array, newest first."""
        return super().get(request)


class AlertStatesView(_AlertView):
    """What the rules found."""

    @extend_schema(
        operation_id="listAlertStates",
        parameters=[
            _TENANT,
            OpenApiParameter("customerRef", str),
            OpenApiParameter("metric", str),
            OpenApiParameter("status", str, enum=list(STATUSES)),
            OpenApiParameter("severity", str, enum=list(SEVERITIES)),
            OpenApiParameter("title", str, description="contained, in either case"),
            OpenApiParameter("limit", int, description="1 to 100; 25 if absent"),
            OpenApiParameter("offset", int),
            OpenApiParameter("sort", str, enum=list(_SORTS)),
            OpenApiParameter("sortDir", str, enum=["asc", "desc"]),
            OpenApiParameter("startTime", str, description="createdAt at or after"),
            OpenApiParameter("endTime", str, description="updatedAt at or before"),
        ],
        responses=AlertStateListOutput,
        tags=["Alerts"],
    )
    def get(self, request: Request) -> Response:
        """One page, newest first."""
        self.check_tenant()
        found = alert_states(
            tenant_id=self.principal.tenant_id,
            customer_ref=query_text(request, "customerRef"),
            metric=query_text(request, "metric"),
            status=query_choice(request, "status", "", ("", *STATUSES)),
            severity=query_choice(request, "severity", "", ("", *SEVERITIES)),
            title=query_text(request, "title"),
            since=query_instant(request, "startTime"),
            until=query_instant(request, "endTime"),
        )
        column = _SORTS[query_choice(request, "sort", "createdAt", tuple(_SORTS))]
        sign = "" if query_choice(request, "sortDir", "desc", ("asc", "desc")) == "asc" else "-"
        limit = query_int(request, "limit", 25, low=1, high=100)
        offset = query_int(request, "offset", 0, low=0, high=1_000_000)
        page = found.order_by(f"{sign}{column}", f"{sign}id")[offset : offset + limit]
        shown = AlertStateOutput(page, many=True).data
        return Response({"total": found.count(), "alertStates": shown})

    @extend_schema(
        operation_id="createAlertState",
        request=NewAlertState,
        responses={201: AlertStateOutput},
        tags=["Alerts"],
    )
    def post(self, request: Request) -> Response:
        """Report a state; it is told like one that the rules found."""
        values = self.validated(NewAlertState, request)
        state = state_writes.write_state(
            actor=self.actor(),
            tenant_key=self.principal.tenant_key,
            rule_id=values.pop("alertConfigId"),
            values=values,
        )
        return Response(AlertStateOutput(state).data, status=201)


class AlertStateView(_AlertView):
    """One state. Reading it takes the write scope, as it always did."""

    scope_verbs = {"GET": "write"}

    @extend_schema(operation_id="getAlertState", responses=AlertStateOutput, tags=["Alerts"])
    def get(self, request: Request, state_id: str) -> Response:
        """The state."""
        self.check_tenant()
        found = AlertState.objects.filter(
            tenant_id=self.principal.tenant_id, pk=uuid_of(state_id)
        ).first()
        if found is None:
            raise NotFound("Not found")
        return Response(AlertStateOutput(found).data)

    @extend_schema(
        operation_id="updateAlertState",
        request=AlertStateChanges,
        responses=AlertStateOutput,
        tags=["Alerts"],
    )
    def put(self, request: Request, state_id: str) -> Response:
        """Acknowledge, snooze (24 hours unless snoozedUntil says else), resolve or re-open."""
        values = self.validated(AlertStateChanges, request)
        state = state_writes.set_status(
            actor=self.actor(),
            tenant_key=self.principal.tenant_key,
            state_id=uuid_of(state_id),
            change=state_writes.Change(**values),
        )
        return Response(AlertStateOutput(state).data)

    @extend_schema(operation_id="deleteAlertState", responses=DeletedOutput, tags=["Alerts"])
    def delete(self, request: Request, state_id: str) -> Response:
        """Take the state and its events away."""
        self.check_tenant()
        state_writes.delete_state(actor=self.actor(), state_id=uuid_of(state_id))
        return Response({"ok": True})
