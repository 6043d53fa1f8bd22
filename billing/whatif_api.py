"""``/v1/simulations/whatif``: what would the past have cost at other prices?"""

from typing import Any

from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.mappings_api import uuid_of
from billing.models import WhatIfRun
from billing.services import whatif
from billing.services.mappings import Actor
from billing.simulation.whatif import CustomerDelta
from billing.simulation.whatif_files import csv_lines, customer_dict
from billing.tasks import wake_what_if
from stripemeter.lib import clock
from stripemeter.lib.drf import DayField, StrictSerializer, TextField, query_choice, query_int
from stripemeter.lib.errors import Conflict, InvalidRequest
from stripemeter.lib.instants import rfc3339
from stripemeter.tenancy.api_base import TenantView

PAGE_DEFAULT, PAGE_MAX = 100, 1_000


class WhatIfInput(StrictSerializer):
    """Whole periods from one day to before another; the last three finished months if absent.

    ``prices`` names metrics: a price config, a Stripe Price, or ``{"changePercent": 10}``.
    """

    tenantId = TextField(required=False)
    name = TextField(required=False, allow_blank=True)
    to = DayField(required=False)
    prices = serializers.DictField()
    currency = TextField(required=False, max_length=3)
    fixedFee = serializers.JSONField(required=False)
    minimumSpend = serializers.JSONField(required=False)
    coupons = serializers.ListField(child=serializers.DictField(), required=False)

    def get_fields(self) -> dict[str, Any]:
        """``from`` is no name that Python allows."""
        return {**super().get_fields(), "from": DayField(required=False)}


class WhatIfOutput(serializers.Serializer[Any]):
    """A run: its progress, and once completed the comparison."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    status = serializers.ChoiceField(choices=WhatIfRun.Status.values)
    progress = serializers.DictField()
    result = serializers.DictField(allow_null=True)
    error = serializers.CharField(allow_null=True)
    winners = serializers.ListField(child=serializers.DictField())
    losers = serializers.ListField(child=serializers.DictField())
    createdAt = serializers.DateTimeField()


class WhatIfListOutput(serializers.Serializer[Any]):
    """One page, newest first."""

    runs = serializers.ListField(child=serializers.DictField())
    total = serializers.IntegerField()


class WhatIfCustomersOutput(serializers.Serializer[Any]):
    """One page of the table per customer, largest increase first."""

    customers = serializers.ListField(child=serializers.DictField())
    total = serializers.IntegerField()
    nextOffset = serializers.IntegerField(allow_null=True)


class _WhatIfView(TenantView):
    scope_area = "simulation"

    def run(self, run_id: str) -> WhatIfRun:
        """The run named in the path."""
        self.check_tenant()
        return whatif.run_of(tenant_id=self.principal.tenant_id, run_id=uuid_of(run_id))


def shown(run: WhatIfRun) -> dict[str, Any]:
    """A run as lists show it."""
    return {
        "id": str(run.pk),
        "name": run.name,
        "status": run.status,
        "progress": {"done": run.steps_done, "total": run.steps_total},
        "from": run.since.date().isoformat(),
        "to": run.until.date().isoformat(),
        "prices": run.document.get("prices"),
        "error": run.error or None,
        "createdBy": run.created_by,
        "createdAt": rfc3339(run.created_at),
        "completedAt": run.completed_at and rfc3339(run.completed_at),
    }


def _in_full(run: WhatIfRun) -> dict[str, Any]:
    answer = {**shown(run), "result": whatif.result_of(run), "losers": [], "winners": []}
    if run.result is not None:
        places = int(run.result["exponent"])
        first = whatif.customer_deltas(run, limit=whatif.SHOWN)
        last = [whatif.delta_of(row) for row in run.customers.order_by("-rank")[: whatif.SHOWN]]
        answer["losers"] = [customer_dict(d, places) for d in first if d.delta_minor > 0]
        answer["winners"] = [customer_dict(d, places) for d in last if d.delta_minor < 0]
    return answer


class WhatIfsView(_WhatIfView):
    """Questions asked."""

    @extend_schema(
        operation_id="listWhatIfs",
        parameters=[OpenApiParameter("limit", int), OpenApiParameter("offset", int)],
        responses=WhatIfListOutput,
        tags=["Simulations"],
    )
    def get(self, request: Request) -> Response:
        """One page, newest first."""
        self.check_tenant()
        limit = query_int(request, "limit", 20, low=1, high=100)
        offset = query_int(request, "offset", 0, low=0, high=10_000)
        found = WhatIfRun.objects.filter(tenant_id=self.principal.tenant_id)
        page = found.order_by("-created_at", "-pk")[offset : offset + limit]
        return Response({"runs": [shown(run) for run in page], "total": found.count()})

    @extend_schema(
        operation_id="askWhatIf",
        request=WhatIfInput,
        responses={200: WhatIfOutput, 202: WhatIfOutput},
        tags=["Simulations"],
    )
    def post(self, request: Request) -> Response:
        """Re-rate past periods: 200 with the result, or 202 with progress when it is large."""
        self.check_tenant(request.data)
        if not isinstance(request.data, dict):
            raise InvalidRequest("The body must be an object.")
        actor = Actor(self.principal.tenant_id, self.principal.actor, clock.now())
        run = whatif.start(actor=actor, document=dict(request.data), clock=clock.now)
        if run.status == WhatIfRun.Status.PENDING:
            wake_what_if()
            return Response(_in_full(run), status=202)
        return Response(_in_full(run))


class WhatIfView(_WhatIfView):
    """One question."""

    @extend_schema(operation_id="getWhatIf", responses=WhatIfOutput, tags=["Simulations"])
    def get(self, request: Request, run_id: str) -> Response:
        """Its progress; once completed the comparison, winners and losers."""
        return Response(_in_full(self.run(run_id)))


class WhatIfCustomersView(_WhatIfView):
    """The table per customer."""

    @extend_schema(
        operation_id="listWhatIfCustomers",
        parameters=[
            OpenApiParameter("limit", int, description="1 to 1000; 100 if absent"),
            OpenApiParameter("offset", int),
            OpenApiParameter("format", str, enum=["json", "csv"]),
        ],
        responses=WhatIfCustomersOutput,
        tags=["Simulations"],
    )
    def get(self, request: Request, run_id: str) -> HttpResponseBase:
        """One page, largest increase first; ``format=csv`` gives the whole table."""
        run = self.run(run_id)
        if run.result is None:
            raise Conflict(f"The run is {run.status}.", code="not_completed")
        places = int(run.result["exponent"])
        if query_choice(request, "format", "json", ("json", "csv")) == "csv":
            return csv_response(run)
        limit = query_int(request, "limit", PAGE_DEFAULT, low=1, high=PAGE_MAX)
        offset = query_int(request, "offset", 0, low=0, high=10_000_000)
        rows: list[CustomerDelta] = whatif.customer_deltas(run, after=offset - 1, limit=limit)
        total = run.customers.count()
        more = offset + limit < total
        return Response(
            {
                "customers": [customer_dict(row, places) for row in rows],
                "total": total,
                "nextOffset": offset + limit if more else None,
            }
        )


def csv_response(run: WhatIfRun) -> StreamingHttpResponse:
    """The whole table as a file."""
    assert run.result is not None
    rows = (whatif.delta_of(row) for row in run.customers.order_by("rank").iterator(2_000))
    response = StreamingHttpResponse(
        csv_lines(rows, currency=run.result["currency"], places=int(run.result["exponent"])),
        content_type="text/csv; charset=utf-8",
    )
    response["Content-Disposition"] = f'attachment; filename="what-if-{run.pk}.csv"'
    return response
