"""Billing calendars and the periods they cut."""

from datetime import timedelta
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from counters.api import customer_of
from counters.models import BillingCalendar
from counters.selectors.periods import ShownPeriod, calendars_of, periods_between
from counters.services import clear_calendar, set_calendar
from stripemeter.lib import clock
from stripemeter.lib.drf import (
    InstantField,
    ReferenceField,
    StrictSerializer,
    TextField,
    WholeField,
    query_instant,
)
from stripemeter.lib.errors import invalid
from stripemeter.lib.instants import rfc3339
from stripemeter.tenancy.api_base import TenantView

SHOWN_BEFORE, SHOWN_AFTER = timedelta(days=366), timedelta(days=92)
_TENANT = OpenApiParameter("tenantId", str)
_CUSTOMER = OpenApiParameter("customerRef", str, description="absent: the tenant's default")


class CalendarOutput(serializers.Serializer[Any]):
    """A calendar; ``customerRef`` null is the tenant's default."""

    customerRef = serializers.CharField(source="customer_ref", allow_null=True)
    anchor = InstantField()
    interval = serializers.CharField()
    intervalCount = serializers.IntegerField(source="interval_count")
    zone = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment]  # a field, not DRF's option
    stripeSubscriptionItem = serializers.CharField(source="stripe_subscription_item")


class CalendarListOutput(serializers.Serializer[Any]):
    """The tenant's calendars, its default first."""

    calendars = CalendarOutput(many=True)


class CalendarsView(TenantView):
    """``/v1/calendars``: how the time of the tenant or of one customer is cut."""

    class Input(StrictSerializer):
        """A calendar: boundaries are counted from ``anchor`` in the wall time of ``zone``."""

        tenantId = TextField(required=False)
        customerRef = ReferenceField(required=False, allow_null=True, default=None)
        anchor = InstantField()
        interval = serializers.ChoiceField(choices=BillingCalendar.Interval.choices)
        intervalCount = WholeField(required=False, default=1, min_value=1, max_value=366)
        zone = TextField(required=False, default="UTC", max_length=64)

    @extend_schema(
        operation_id="listCalendars",
        parameters=[_TENANT, _CUSTOMER],
        responses=CalendarListOutput,
        tags=["Periods"],
    )
    def get(self, request: Request) -> Response:
        """List calendars; without any, periods are UTC calendar months."""
        self.check_tenant()
        found = calendars_of(
            tenant_id=self.principal.tenant_id,
            customer_ref=customer_of(request, required=False),
        )
        return Response({"calendars": CalendarOutput(found, many=True).data})

    @extend_schema(
        operation_id="setCalendar", request=Input, responses=CalendarOutput, tags=["Periods"]
    )
    def put(self, request: Request) -> Response:
        """Set a calendar; the counters it governs are cut anew. Fixed periods stay."""
        self.check_tenant(request.data)
        values = self.Input(data=request.data)
        values.is_valid(raise_exception=True)
        given = values.validated_data
        row = set_calendar(
            tenant_id=self.principal.tenant_id,
            customer_ref=given["customerRef"],
            anchor=given["anchor"],
            interval=given["interval"],
            interval_count=given["intervalCount"],
            zone=given["zone"],
            actor=self.principal.actor,
            now=clock.now(),
        )
        return Response(CalendarOutput(row).data)

    @extend_schema(
        operation_id="clearCalendar",
        parameters=[_TENANT, _CUSTOMER],
        responses={204: None},
        tags=["Periods"],
    )
    def delete(self, request: Request) -> Response:
        """Take a calendar away."""
        self.check_tenant()
        clear_calendar(
            tenant_id=self.principal.tenant_id,
            customer_ref=customer_of(request, required=False),
            actor=self.principal.actor,
            now=clock.now(),
        )
        return Response(status=204)


class PeriodListOutput(serializers.Serializer[Any]):
    """How a customer's time is cut, ascending; each period ends where the next begins."""

    customerRef = serializers.CharField()
    periods = serializers.ListField(child=serializers.DictField())


class PeriodsView(TenantView):
    """``GET /v1/periods``: the periods of a customer."""

    scope_area = "usage"

    @extend_schema(
        operation_id="listPeriods",
        parameters=[
            _TENANT,
            OpenApiParameter("customerRef", str, required=True),
            OpenApiParameter("since", str, description="RFC 3339; a year ago if absent"),
            OpenApiParameter("until", str, description="RFC 3339; in 92 days if absent"),
        ],
        responses=PeriodListOutput,
        tags=["Periods"],
    )
    def get(self, request: Request) -> Response:
        """List the periods that touch ``[since, until)``."""
        self.check_tenant()
        customer = customer_of(request) or ""
        now = clock.now()
        since = query_instant(request, "since") or now - SHOWN_BEFORE
        until = query_instant(request, "until") or now + SHOWN_AFTER
        if not since < until:
            raise invalid("until", "must lie after since")
        if not (since.year >= 1990 and until.year <= 2200):
            raise invalid("since", "must lie between 1990 and 2200")
        found = periods_between(
            tenant_id=self.principal.tenant_id, customer_ref=customer, since=since, until=until
        )
        return Response({"customerRef": customer, "periods": [_shown(entry) for entry in found]})


def _shown(entry: ShownPeriod) -> dict[str, Any]:
    return {
        "start": rfc3339(entry.period.start),
        "end": rfc3339(entry.period.end),
        "state": entry.state,
        "finalizesAt": entry.finalizes_at and rfc3339(entry.finalizes_at),
        "frozenAt": entry.frozen_at and rfc3339(entry.frozen_at),
    }
