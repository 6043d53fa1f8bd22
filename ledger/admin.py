"""The ledger in Django's admin: to look at. Events have a composite key and pages of their own."""

from django.contrib import admin

from ledger.models import EventConflict, Metric, Operation
from stripemeter.tenancy.admin_base import OWN_TENANTS, ReadOnlyAdmin


@admin.register(Metric)
class MetricAdmin(ReadOnlyAdmin):
    """What tenants count; changed on the page Metrics, which rebuilds counters."""

    list_display = ("name", "tenant", "aggregation", "unit", "configured", "lateness_window_hours")
    list_filter = (OWN_TENANTS, "aggregation", "configured")
    list_select_related = ("tenant",)
    search_fields = ("name", "description")
    ordering = ("tenant", "name")


@admin.register(EventConflict)
class EventConflictAdmin(ReadOnlyAdmin):
    """Refused repeats; settled on the page Inbox."""

    list_display = ("recorded_at", "tenant", "key", "resolved_at", "resolved_by")
    list_filter = (OWN_TENANTS, ("resolved_at", admin.EmptyFieldListFilter))
    list_select_related = ("tenant",)
    search_fields = ("resolved_by", "note")
    ordering = ("-id",)


@admin.register(Operation)
class OperationAdmin(ReadOnlyAdmin):
    """Backfills and replays; cancelled and resumed on their own pages."""

    list_display = ("created_at", "tenant", "kind", "status", "steps_done", "steps_total", "actor")
    list_filter = (OWN_TENANTS, "kind", "status")
    list_select_related = ("tenant",)
    search_fields = ("id", "actor", "error")
    ordering = ("-created_at",)
