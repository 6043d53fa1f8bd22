"""Widget sessions in Django's admin: to look at; the API mints and revokes them."""

from django.contrib import admin

from stripemeter.tenancy.admin_base import OWN_TENANTS, ReadOnlyAdmin
from widget.models import WidgetSession


@admin.register(WidgetSession)
class WidgetSessionAdmin(ReadOnlyAdmin):
    """Short-lived permissions for one customer's page."""

    list_display = (
        "created_at",
        "tenant",
        "customer_ref",
        "expires_at",
        "revoked_at",
        "created_by",
    )
    list_filter = (OWN_TENANTS, ("revoked_at", admin.EmptyFieldListFilter))
    list_select_related = ("tenant", "api_key")
    search_fields = ("customer_ref", "created_by")
    ordering = ("-created_at",)
