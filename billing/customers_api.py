"""``/v1/customers``: which Stripe customer a customer reference is."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import ids, selectors
from billing.mappings_api import ChoiceText, StripeIdField
from billing.models import Mode
from billing.services import customers
from stripemeter.lib import clock, cursors
from stripemeter.lib.drf import (
    InstantField,
    ReferenceField,
    StrictSerializer,
    TextField,
    query_choice,
    query_int,
    query_text,
)
from stripemeter.lib.errors import NotFound
from stripemeter.tenancy.api_base import TenantView

PAGE_DEFAULT, PAGE_MAX = 50, 500
_MODES = tuple(Mode.values)


class CustomerLinkInput(StrictSerializer):
    """A reference and the Stripe customer it is, in live or in test mode."""

    tenantId = TextField(required=False)
    customerRef = ReferenceField(source="customer_ref")
    stripeCustomerId = StripeIdField(ids.CUSTOMER, source="stripe_customer_id")
    mode = ChoiceText(_MODES, required=False, default=Mode.LIVE)


class CustomerLinkOutput(serializers.Serializer[Any]):
    """A stored link."""

    id = serializers.IntegerField()
    customerRef = serializers.CharField(source="customer_ref")
    stripeCustomerId = serializers.CharField(source="stripe_customer_id")
    mode = serializers.CharField()
    createdAt = InstantField(source="created_at")
    createdBy = serializers.CharField(source="created_by")


class CustomerLinkListOutput(serializers.Serializer[Any]):
    """A page; ``nextCursor`` is null on the last."""

    customers = CustomerLinkOutput(many=True)
    nextCursor = serializers.CharField(allow_null=True)


class CustomersView(TenantView):
    """The tenant's customer links."""

    scope_area = "mappings"

    @extend_schema(
        operation_id="listCustomerLinks",
        parameters=[
            OpenApiParameter("customerRef", str),
            OpenApiParameter("mode", str, enum=list(_MODES)),
            OpenApiParameter("limit", int),
            OpenApiParameter("cursor", str),
        ],
        responses=CustomerLinkListOutput,
        tags=["Customers"],
    )
    def get(self, request: Request) -> Response:
        """List links in order of creation."""
        self.check_tenant()
        limit = query_int(request, "limit", PAGE_DEFAULT, low=1, high=PAGE_MAX)
        mode = query_choice(request, "mode", "", ("", *_MODES)) or None
        reference = query_text(request, "customerRef")
        filters = {"mode": mode, "customerRef": reference}
        key = self.principal.tenant_key
        raw = query_text(request, "cursor")
        after = (
            int(cursors.decode(raw, tenant_key=key, listing="customers", filters=filters))
            if raw
            else 0
        )
        found = selectors.customer_links(
            tenant_id=self.principal.tenant_id,
            customer_ref=reference,
            mode=mode,
            after_id=after,
            limit=limit + 1,
        )
        page = found[:limit]
        cursor = None
        if len(found) > limit:
            cursor = cursors.encode(
                page[-1].pk, tenant_key=key, listing="customers", filters=filters
            )
        return Response(
            {"customers": CustomerLinkOutput(page, many=True).data, "nextCursor": cursor}
        )

    @extend_schema(
        operation_id="linkCustomer",
        request=CustomerLinkInput,
        responses={201: CustomerLinkOutput, 200: CustomerLinkOutput},
        tags=["Customers"],
    )
    def post(self, request: Request) -> Response:
        """Link a reference; 200 if it was linked so already."""
        self.check_tenant(request.data)
        values = CustomerLinkInput(data=request.data)
        values.is_valid(raise_exception=True)
        fields = dict(values.validated_data)
        fields.pop("tenantId", None)
        link, new = customers.link_customer(
            tenant_id=self.principal.tenant_id,
            actor=self.principal.actor,
            now=clock.now(),
            **fields,
        )
        return Response(CustomerLinkOutput(link).data, status=201 if new else 200)


class CustomerView(TenantView):
    """One link."""

    scope_area = "mappings"

    @extend_schema(operation_id="unlinkCustomer", responses={204: None}, tags=["Customers"])
    def delete(self, request: Request, link_id: str) -> Response:
        """Remove a link: usage of the reference waits from now on."""
        self.check_tenant()
        if not (link_id.isascii() and link_id.isdigit() and len(link_id) <= 18):
            raise NotFound("No such customer link")
        customers.unlink_customer(
            tenant_id=self.principal.tenant_id,
            link_id=int(link_id),
            actor=self.principal.actor,
            now=clock.now(),
        )
        return Response(status=204)
