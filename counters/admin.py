"""Periods, calendars and corrections in Django's admin: to look at; services own the writes."""

from django.contrib import admin

from counters.models import Adjustment, BillingCalendar, BillingPeriod, Verification
from stripemeter.lib.decimals import grouped
from stripemeter.tenancy.admin_base import OWN_TENANTS, ReadOnlyAdmin, SuperuserAdmin


@admin.register(Adjustment)
class AdjustmentAdmin(ReadOnlyAdmin):
    """Signed corrections; decided on the page Adjustments, by a second person."""

    list_display = (
        "created_at", "tenant", "metric", "customer_ref", "change", "reason", "status", "actor",
    )  # fmt: skip
    list_filter = (OWN_TENANTS, "status", "reason")
    list_select_related = ("tenant", "metric")
    search_fields = ("id", "customer_ref", "actor", "approved_by", "request_id")
    ordering = ("-created_at",)

    @admin.display(ordering="delta")
    def change(self, adjustment: Adjustment) -> str:
        """Without the zeros that the column stores behind the point."""
        return grouped(adjustment.delta)


@admin.register(BillingPeriod)
class BillingPeriodAdmin(ReadOnlyAdmin):
    """Periods that left the state open, or follow a calendar of their own."""

    list_display = ("span", "tenant", "customer_ref", "state", "finalizes_at", "frozen_at")
    list_filter = (OWN_TENANTS, "state")
    list_select_related = ("tenant",)
    search_fields = ("customer_ref",)
    ordering = ("-id",)


@admin.register(BillingCalendar)
class BillingCalendarAdmin(ReadOnlyAdmin):
    """How customers' time is cut."""

    list_display = ("tenant", "customer_ref", "interval_count", "interval", "anchor", "zone")
    list_filter = (OWN_TENANTS, "interval")
    list_select_related = ("tenant",)
    search_fields = ("customer_ref",)
    ordering = ("tenant", "customer_ref")


@admin.register(Verification)
class VerificationAdmin(SuperuserAdmin):
    """Comparisons of counters with the ledger, over all tenants."""

    list_display = ("finished_at", "whole", "differences", "repaired")
    list_filter = ("whole",)
    ordering = ("-finished_at",)
