"""``/v1/terms``: credits, commitments, discounts and tax that projections apply."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.models import CustomerTerms
from billing.services import terms as writes
from billing.services.mappings import Actor
from billing.terms import MEMBERS
from stripemeter.lib import clock
from stripemeter.lib.drf import ReferenceField, StrictSerializer, TextField, query_int, query_text
from stripemeter.lib.instants import rfc3339
from stripemeter.tenancy.api_base import TenantView

_CUSTOMER = OpenApiParameter("customerRef", str, description="absent: the default of the tenant")


class TermsInput(StrictSerializer):
    """Terms as in the simulator's input; amounts in major units. Replaces what was agreed."""

    tenantId = TextField(required=False)
    customerRef = ReferenceField(required=False, allow_null=True)
    credits = serializers.ListField(child=serializers.DictField(), required=False)
    commitments = serializers.ListField(child=serializers.DictField(), required=False)
    coupons = serializers.ListField(child=serializers.DictField(), required=False)
    fixedFees = serializers.ListField(child=serializers.DictField(), required=False)
    minimumSpend = serializers.JSONField(required=False)
    taxRate = serializers.JSONField(required=False)
    taxBehavior = TextField(required=False)
    taxRounding = TextField(required=False)


class TermsOutput(serializers.Serializer[Any]):
    """Terms as stored."""

    customerRef = serializers.CharField(allow_null=True)
    terms = serializers.DictField()
    updatedBy = serializers.CharField()
    updatedAt = serializers.DateTimeField()


class TermsListOutput(serializers.Serializer[Any]):
    """One page by customer, the tenant's default first."""

    terms = TermsOutput(many=True)
    total = serializers.IntegerField()


class TermsView(TenantView):
    """The tenant's terms."""

    scope_area = "mappings"

    @extend_schema(
        operation_id="listTerms",
        parameters=[_CUSTOMER, OpenApiParameter("limit", int), OpenApiParameter("offset", int)],
        responses=TermsListOutput,
        tags=["Usage"],
    )
    def get(self, request: Request) -> Response:
        """One page, the default first."""
        self.check_tenant()
        found = CustomerTerms.objects.filter(tenant_id=self.principal.tenant_id)
        customer = query_text(request, "customerRef")
        if customer:
            found = found.filter(customer_ref=customer)
        limit = query_int(request, "limit", 50, low=1, high=100)
        offset = query_int(request, "offset", 0, low=0, high=1_000_000)
        page = found.order_by("customer_ref")[offset : offset + limit]
        return Response({"terms": [_shown(row) for row in page], "total": found.count()})

    @extend_schema(
        operation_id="setTerms", request=TermsInput, responses=TermsOutput, tags=["Usage"]
    )
    def put(self, request: Request) -> Response:
        """Agree on terms of a customer, or on the tenant's default."""
        self.check_tenant(request.data)
        body = TermsInput(data=request.data)
        body.is_valid(raise_exception=True)
        given: Any = request.data
        document = {name: given[name] for name in MEMBERS if name in given}
        row = writes.set_terms(
            actor=self._actor(),
            customer_ref=body.validated_data.get("customerRef"),
            document=document,
        )
        return Response(_shown(row))

    @extend_schema(
        operation_id="clearTerms", parameters=[_CUSTOMER], responses={204: None}, tags=["Usage"]
    )
    def delete(self, request: Request) -> Response:
        """Forget them; the tenant's default applies again."""
        self.check_tenant()
        writes.clear_terms(
            actor=self._actor(), customer_ref=query_text(request, "customerRef") or None
        )
        return Response(status=204)

    def _actor(self) -> Actor:
        return Actor(self.principal.tenant_id, self.principal.actor, clock.now())


def _shown(row: CustomerTerms) -> dict[str, Any]:
    return {
        "customerRef": row.customer_ref,
        "terms": row.document,
        "updatedBy": row.updated_by,
        "updatedAt": rfc3339(row.updated_at),
    }
