"""Reconciliation in Django's admin: to look at; its pages hold the decisions."""

from django.contrib import admin

from reconciliation.models import Export, Finding, PeriodClose, RepairPlan, Run
from stripemeter.lib.decimals import grouped
from stripemeter.tenancy.admin_base import OWN_TENANTS, ReadOnlyAdmin


@admin.register(Run)
class RunAdmin(ReadOnlyAdmin):
    """Comparisons with Stripe."""

    list_display = (
        "requested_at", "tenant", "status", "cursors", "parity", "settling", "drifting",
        "skipped", "stripe_reads",
    )  # fmt: skip
    list_filter = (OWN_TENANTS, "status")
    list_select_related = ("tenant",)
    search_fields = ("id", "customer_ref", "requested_by", "error")
    ordering = ("-requested_at",)


@admin.register(Finding)
class FindingAdmin(ReadOnlyAdmin):
    """Differences with a named cause."""

    list_display = (
        "opened_at", "tenant", "cause", "customer_ref", "difference", "mode", "severity", "state",
    )  # fmt: skip
    list_filter = (OWN_TENANTS, "state", "severity", "cause", "mode")
    list_select_related = ("tenant",)
    search_fields = ("id", "customer_ref", "note", "decided_by")
    ordering = ("-opened_at",)

    @admin.display(description="units", ordering="units")
    def difference(self, finding: Finding) -> str:
        """Without the zeros that the column stores behind the point."""
        return grouped(finding.units)


@admin.register(RepairPlan)
class RepairPlanAdmin(ReadOnlyAdmin):
    """What shall be done about findings."""

    list_display = ("created_at", "tenant", "state", "created_by", "decided_by", "verified_at")
    list_filter = (OWN_TENANTS, "state")
    list_select_related = ("tenant",)
    search_fields = ("id", "note", "created_by", "decided_by")
    ordering = ("-created_at",)


@admin.register(PeriodClose)
class PeriodCloseAdmin(ReadOnlyAdmin):
    """Periods closed on purpose, with their certificates."""

    list_display = ("period_start", "period_end", "tenant", "state", "closed_by", "sealed_at")
    list_filter = (OWN_TENANTS, "state")
    list_select_related = ("tenant",)
    search_fields = ("id", "closed_by", "certificate_sha256")
    ordering = ("-period_start",)


@admin.register(Export)
class ExportAdmin(ReadOnlyAdmin):
    """Files for finance."""

    list_display = (
        "requested_at", "tenant", "format", "status", "rows_written", "rows_expected", "expires_at",
    )  # fmt: skip
    list_filter = (OWN_TENANTS, "status", "format")
    list_select_related = ("tenant",)
    search_fields = ("id", "requested_by", "error")
    ordering = ("-requested_at",)
