"""Billing in Django's admin: to look at. Pushes and cursors have composite keys, and pages."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from billing.models import (
    CustomerLink,
    Mode,
    PriceMapping,
    PriceVersion,
    SimulationBatch,
    SimulationRun,
    SimulationScenario,
    StripeAccount,
    WebhookInbox,
)
from stripemeter.tenancy import roles
from stripemeter.tenancy.admin_base import OWN_TENANTS, ReadOnlyAdmin, SuperuserAdmin


@admin.register(PriceMapping)
class PriceMappingAdmin(ReadOnlyAdmin):
    """What bills a metric; changed on the page Mappings."""

    list_display = (
        "metric", "tenant", "price_id", "stripe_account", "active", "shadow", "effective_from",
        "effective_to", "version",
    )  # fmt: skip
    list_filter = (OWN_TENANTS, "active", "shadow", "push_semantics")
    list_select_related = ("tenant", "metric")
    search_fields = ("price_id", "stripe_account", "metric__name", "stripe_meter_event_name")
    ordering = ("-created_at",)


@admin.register(CustomerLink)
class CustomerLinkAdmin(ReadOnlyAdmin):
    """Which customer at Stripe a reference is; made through the API."""

    list_display = ("customer_ref", "tenant", "mode", "stripe_customer_id", "created_at")
    list_filter = (OWN_TENANTS, "mode")
    list_select_related = ("tenant",)
    search_fields = ("customer_ref", "stripe_customer_id")
    ordering = ("-id",)


@admin.register(StripeAccount)
class StripeAccountAdmin(ReadOnlyAdmin):
    """Accounts that the operator's tenants push to; resumed on the page Stripe accounts."""

    list_display = ("account", "mode", "halted_at", "failures", "open_until", "rate_per_second")
    list_filter = ("mode", ("halted_at", admin.EmptyFieldListFilter))
    search_fields = ("account", "halted_reason")
    ordering = ("account", "mode")
    exclude = ("owner",)

    tenant_path = "owner"

    def of_operator(self, rows: QuerySet[Any], request: HttpRequest) -> QuerySet[Any]:
        """Accounts may serve several tenants: those that the operator's mappings name."""
        own = roles.tenants_of(request.user)
        mappings = PriceMapping.objects.filter(tenant__in=own)
        return rows.filter(
            Q(account__in=mappings.values("stripe_account"), mode=Mode.LIVE)
            | Q(account__in=mappings.values("shadow_stripe_account"), mode=Mode.TEST),
            Q(owner__isnull=True) | Q(owner__in=own),
        )


@admin.register(SimulationScenario)
class SimulationScenarioAdmin(ReadOnlyAdmin):
    """Scenarios of the simulator."""

    list_display = ("name", "tenant", "version", "active", "created_by", "created_at")
    list_filter = (OWN_TENANTS, "active")
    list_select_related = ("tenant",)
    search_fields = ("name", "description", "created_by")
    ordering = ("-created_at",)


@admin.register(SimulationBatch)
class SimulationBatchAdmin(ReadOnlyAdmin):
    """Scenarios run together."""

    list_display = ("name", "tenant", "created_by", "created_at")
    list_filter = (OWN_TENANTS,)
    list_select_related = ("tenant",)
    search_fields = ("name", "description")
    ordering = ("-created_at",)


@admin.register(SimulationRun)
class SimulationRunAdmin(ReadOnlyAdmin):
    """What scenarios came to."""

    list_display = ("name", "tenant", "status", "passed", "triggered_by", "created_at")
    list_filter = (OWN_TENANTS, "status", "passed")
    list_select_related = ("tenant",)
    search_fields = ("name", "error")
    ordering = ("-created_at",)


@admin.register(WebhookInbox)
class WebhookInboxAdmin(SuperuserAdmin):
    """Events of Stripe, as they came; an account may serve several tenants."""

    list_display = ("received_at", "type", "event_id", "account", "livemode", "status", "outcome")
    list_filter = ("status", "livemode", "kind")
    search_fields = ("event_id", "type", "account", "outcome")
    ordering = ("-id",)


@admin.register(PriceVersion)
class PriceVersionAdmin(SuperuserAdmin):
    """Prices as Stripe last showed them."""

    list_display = ("price_id", "account", "mode", "seen_at")
    list_filter = ("mode",)
    search_fields = ("price_id", "account")
    ordering = ("-id",)
