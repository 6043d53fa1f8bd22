"""The base of the admin's pages: each operator sees the tenants he or she is a member of."""

from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from stripemeter.lib.errors import ProblemError
from stripemeter.tenancy import roles
from stripemeter.tenancy.models import Tenant


class TenantFilter(admin.RelatedFieldListFilter):
    """Offers the operator's own tenants; Django's offers every row of the table."""

    def field_choices(
        self, field: Any, request: HttpRequest, model_admin: Any
    ) -> list[tuple[str, Any]]:
        """Tenants to choose from."""
        own = roles.tenants_of(request.user).order_by("key")
        return [(str(tenant.pk), str(tenant)) for tenant in own]


#: In a ``list_filter``.
OWN_TENANTS = ("tenant", TenantFilter)


class TenantScopedAdmin(ModelAdmin):  # type: ignore[misc]  # ships no types
    """A model with a tenant. Viewers look; ``change_role`` may change.

    ``tenant_path`` is the lookup from the model to its tenant.
    """

    tenant_path = "tenant"
    change_role = "maintainer"
    list_per_page = 50
    show_full_result_count = False
    list_fullwidth = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Rows of the operator's tenants only."""
        rows: QuerySet[Any] = super().get_queryset(request)
        if getattr(request.user, "is_superuser", False):
            return rows
        return self.of_operator(rows, request)

    def of_operator(self, rows: QuerySet[Any], request: HttpRequest) -> QuerySet[Any]:
        """Of ``rows``, those that an operator who is no superuser may see."""
        return rows.filter(**{f"{self.tenant_path}__in": roles.tenants_of(request.user)})

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Only tenants in which the operator may change something can be chosen."""
        if db_field.related_model is Tenant:
            kwargs["queryset"] = roles.tenants_of(request.user, at_least=self.change_role)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def _tenant_id(self, obj: Any) -> int | None:
        for part in self.tenant_path.split("__"):
            if part not in {"self", "pk"}:
                obj = getattr(obj, part)
        return obj.pk if obj is not None else None

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Show refusals of a service as a message, not as a broken page."""
        return self._or_told(request, super().changeform_view, *args, **kwargs)

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Show refusals of a service as a message, not as a broken page."""
        return self._or_told(request, super().delete_view, *args, **kwargs)

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Show refusals of a service as a message, not as a broken page."""
        return self._or_told(request, super().changelist_view, *args, **kwargs)

    def _or_told(self, request: HttpRequest, view: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            with transaction.atomic():
                return view(request, *args, **kwargs)
        except ProblemError as problem:
            say(request, problem.detail, good=False)
            return self.response_post_save_change(request, None)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Every operator with a tenant."""
        return roles.may(request.user, "viewer")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Members; the queryset has narrowed what they see already."""
        return roles.may(
            request.user, "viewer", tenant_id=None if obj is None else self._tenant_id(obj)
        )

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Those with ``change_role``."""
        return roles.may(
            request.user,
            self.change_role,
            tenant_id=None if obj is None else self._tenant_id(obj),
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Those with ``change_role`` in some tenant; the form offers only those."""
        return roles.may(request.user, self.change_role)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody: things end, they are not deleted."""
        return False


class ReadOnlyAdmin(TenantScopedAdmin):
    """Facts: looked at, never edited."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Never."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never."""
        return False


class SuperuserAdmin(ReadOnlyAdmin):
    """Facts of no single tenant: shown to superusers alone."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Superusers."""
        return bool(getattr(request.user, "is_superuser", False))

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Superusers."""
        return self.has_module_permission(request)


def say(request: HttpRequest, text: str, *, good: bool = True) -> None:
    """Tell the operator; never put a secret here, since messages live in a cookie."""
    (messages.success if good else messages.error)(request, text)
