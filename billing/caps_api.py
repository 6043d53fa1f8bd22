"""``GET /v1/caps/check``: may this customer go on?"""

from decimal import Decimal
from typing import Any

from django.http import HttpRequest, HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from billing.caps import CapState, check_caps
from stripemeter.lib import clock
from stripemeter.lib.decimals import NotANumber, decimal_of, digits_and_decimals
from stripemeter.lib.drf import query_text
from stripemeter.lib.errors import invalid
from stripemeter.lib.http import json_response, wants_decimals_as_text
from stripemeter.lib.instants import rfc3339
from stripemeter.lib.text import metric_problem, reference_problem
from stripemeter.tenancy.api_base import DirectView


class CapCheckOutput(serializers.Serializer[Any]):
    """``allowed`` is false once a hard cap would be exceeded; ``caps`` says where each stands."""

    customerRef = serializers.CharField()
    allowed = serializers.BooleanField()
    decision = serializers.ChoiceField(choices=["allow", "deny"])
    reason = serializers.CharField(allow_null=True)
    warnings = serializers.ListField(child=serializers.CharField())
    caps = serializers.ListField(child=serializers.DictField())
    resumesAt = serializers.DateTimeField(allow_null=True)
    pendingEvents = serializers.IntegerField()
    asOf = serializers.DateTimeField()


class CapCheckView(DirectView):
    """Made to be asked before every use; reading usage or alerts is all it takes."""

    direct_method = "GET"
    required_scopes = ("project:read", "usage:read", "alerts:read")

    @extend_schema(
        operation_id="checkCaps",
        parameters=[
            OpenApiParameter("tenantId", str),
            OpenApiParameter("customerRef", str, required=True),
            OpenApiParameter("metric", str, description="every metric with usage if absent"),
            OpenApiParameter(
                "quantity", str, description="what is about to be used; any more at all if absent"
            ),
        ],
        responses=CapCheckOutput,
        tags=["Alerts"],
    )
    def get(self, request: Request) -> HttpResponse:
        """Allow or deny, from what is counted and what is stored and not yet counted."""
        return self.answer(request._request)

    def answer(self, request: HttpRequest) -> HttpResponse:
        """One round trip to the database, where the tenant has no calendars of its own."""
        self.check_tenant()
        customer = query_text(request, "customerRef") or ""
        problem = reference_problem(customer)
        if problem:
            raise invalid("customerRef", problem, code="invalid_reference")
        metric = query_text(request, "metric") or None
        problem = metric_problem(metric) if metric is not None else None
        if problem:
            raise invalid("metric", problem, code="invalid_metric")
        now = clock.now()
        found = check_caps(
            tenant_id=self.principal.tenant_id,
            customer_ref=customer,
            metric=metric,
            quantity=_quantity(request),
            now=now,
        )
        over = [cap for cap in found.caps if cap.exceeded]
        denying = [cap for cap in over if cap.is_hard]
        return json_response(
            {
                "customerRef": customer,
                "allowed": found.allowed,
                "decision": "allow" if found.allowed else "deny",
                "reason": _said(denying[0]) if denying else None,
                "warnings": [_said(cap) for cap in over if not cap.is_hard],
                "caps": [_shown(cap) for cap in found.caps],
                "resumesAt": None if found.allowed else rfc3339(found.period.end),
                "pendingEvents": found.pending_events,
                "asOf": rfc3339(now),
            },
            decimals_as_text=wants_decimals_as_text(request),
        )


def _quantity(request: HttpRequest) -> Decimal | None:
    raw = query_text(request, "quantity")
    if not raw:
        return None
    try:
        number = decimal_of(raw)
    except NotANumber as error:
        raise invalid("quantity", "must be a plain decimal number") from error
    if number < 0 or digits_and_decimals(number)[0] > 38:
        raise invalid("quantity", "is out of range", code="out_of_range")
    return number


def _said(cap: CapState) -> str:
    what = cap.metric or "the bill"
    kind = "hard" if cap.is_hard else "soft"
    return f"{what}: {kind} cap of {cap.limit:f}{f' {cap.currency}' if cap.currency else ''}"


def _shown(cap: CapState) -> dict[str, Any]:
    return {
        "alertConfigId": str(cap.rule.pk),
        "metric": cap.metric,
        "type": cap.rule.type,
        "action": cap.rule.action,
        "limit": cap.limit,
        "current": cap.current,
        "remaining": cap.remaining,
        "currency": cap.currency,
        "exceeded": cap.exceeded,
    }
