"""The admin of tenants, operators, keys and the audit trail. Each write leaves an audit row."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Model
from django.forms.models import model_to_dict
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldBooleanSwitchWidget

from stripemeter.lib import clock
from stripemeter.lib.ratelimit import limiter
from stripemeter.tenancy import audit, members, roles, services
from stripemeter.tenancy.admin_base import OWN_TENANTS, ReadOnlyAdmin, TenantScopedAdmin, say
from stripemeter.tenancy.models import ApiKey, AuditEntry, Membership, Tenant
from stripemeter.tenancy.scopes import ALL_SCOPES, DEFAULT_SCOPES

PASSWORD_TRIES, PASSWORD_WINDOW_SECONDS = 5, 900


if TYPE_CHECKING:
    _KeyForm = forms.ModelForm[ApiKey]
else:
    _KeyForm = forms.ModelForm  # generic only in the stubs


def record_change(
    request: HttpRequest,
    obj: Model,
    *,
    tenant_id: int | None,
    before: dict[str, Any] | None,
    after: dict[str, Any],
) -> None:
    """One audit row for what an operator changed in a form."""
    name = obj._meta.model_name or ""
    audit.record(
        tenant_id=tenant_id,
        actor=roles.actor_of(request.user),
        action=f"{name}.{'changed' if before is not None else 'created'}",
        object_type=name,
        object_id=obj,
        now=clock.now(),
        before=before,
        after=after,
    )


def _values(obj: Model) -> dict[str, Any]:
    return {
        name: value if isinstance(value, str | int | bool | None) else str(value)
        for name, value in model_to_dict(obj).items()
        if name not in {"password", "digest"}
    }


@admin.register(Tenant)
class TenantAdmin(TenantScopedAdmin):
    """Tenants. Only superusers make them; owners set their rules."""

    tenant_path = "pk"
    change_role = "owner"
    list_display = ("key", "name", "late_policy", "lateness_window_hours", "is_active")
    list_filter = ("is_active", "late_policy")
    search_fields = ("key", "name")
    fields = (
        "key", "name", "is_active", "late_policy", "lateness_window_hours", "single_operator",
        "adjustment_cap", "epsilon",
    )  # fmt: skip

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Superusers."""
        return bool(getattr(request.user, "is_superuser", False))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """The id on the wire never changes; only superusers close a tenant."""
        if obj is None:
            return ()
        return ("key",) if getattr(request.user, "is_superuser", False) else ("key", "is_active")

    def save_model(self, request: HttpRequest, obj: Tenant, form: Any, change: bool) -> None:
        """Save, with its audit row."""
        with transaction.atomic():
            before = _values(Tenant.objects.get(pk=obj.pk)) if change else None
            super().save_model(request, obj, form, change)
            record_change(request, obj, tenant_id=obj.pk, before=before, after=_values(obj))


@admin.register(Membership)
class MembershipAdmin(TenantScopedAdmin):
    """Who has which role where. Owners decide."""

    change_role = "owner"
    list_display = ("user", "tenant", "role", "created_at")
    list_filter = ("role", OWN_TENANTS)
    search_fields = ("user__username", "tenant__key")
    list_select_related = ("user", "tenant")
    fields = ("tenant", "user", "role")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Owners end a membership by deleting it; the audit trail keeps it."""
        return self.has_change_permission(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Whose membership it is never changes."""
        return () if obj is None else ("tenant", "user")

    def save_model(self, request: HttpRequest, obj: Membership, form: Any, change: bool) -> None:
        """Through the service, which keeps an owner and leaves the audit row."""
        actor, now = roles.actor_of(request.user), clock.now()
        if change:
            members.change_role(
                tenant_id=obj.tenant_id, user_id=obj.user_id, role=obj.role, actor=actor, now=now
            )
            return
        who = obj.user.get_username()
        added = members.add_member(
            tenant_id=obj.tenant_id, who=who, role=obj.role, actor=actor, now=now
        )
        obj.pk = added.membership.pk

    def delete_model(self, request: HttpRequest, obj: Membership) -> None:
        """Through the service, which keeps an owner and leaves the audit row."""
        members.remove_member(
            tenant_id=obj.tenant_id,
            user_id=obj.user_id,
            actor=roles.actor_of(request.user),
            now=clock.now(),
        )

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        """Each with its audit row."""
        for membership in queryset:
            self.delete_model(request, membership)


class ApiKeyForm(_KeyForm):
    """A new key, or a rotation: both need the operator's password again."""

    scopes = forms.MultipleChoiceField(
        choices=[(scope, scope) for scope in sorted(ALL_SCOPES)],
        initial=list(DEFAULT_SCOPES),
        widget=forms.CheckboxSelectMultiple,
        required=False,
    )
    current_password = forms.CharField(
        label="Your password",
        help_text="Asked again, since what follows grants access.",
        widget=UnfoldAdminPasswordWidget,
        max_length=200,
        strip=False,
    )
    at_once = forms.BooleanField(
        label="End the old key at once",
        help_text="On rotation; otherwise it works for 24 hours more.",
        widget=UnfoldBooleanSwitchWidget,
        required=False,
    )
    operator: Any = None

    class Meta:
        model = ApiKey
        fields: ClassVar = ["tenant", "name", "expires_at"]

    def clean_current_password(self) -> str:
        """The operator's own password, with few tries."""
        password = str(self.cleaned_data["current_password"])
        verdict = limiter.take(
            f"password-again:{self.operator.pk}",
            limit=PASSWORD_TRIES,
            window_seconds=PASSWORD_WINDOW_SECONDS,
        )
        if not verdict.allowed:
            raise forms.ValidationError("Too many tries. Come back in a quarter of an hour.")
        if not self.operator.check_password(password):
            raise forms.ValidationError("That is not your password.")
        return password


@admin.register(ApiKey)
class ApiKeyAdmin(TenantScopedAdmin):
    """Keys: made, rotated, revoked; never edited, and shown once."""

    change_role = "owner"
    form = ApiKeyForm
    list_display = ("name", "shown_prefix", "tenant", "shown_status", "created_by", "last_used_at")
    list_filter = (OWN_TENANTS, "is_live", ("revoked_at", admin.EmptyFieldListFilter))
    search_fields = ("name", "lookup", "tenant__key")
    list_select_related = ("tenant",)
    ordering = ("-id",)
    actions_submit_line = ("rotate", "revoke")

    @display(description="Starts with")
    def shown_prefix(self, key: ApiKey) -> str:
        """The public part."""
        return f"{key.prefix}…"

    @display(
        description="Status",
        label={"active": "success", "expired": "warning", "revoked": "danger"},
    )
    def shown_status(self, key: ApiKey) -> str:
        """Active, expired or revoked."""
        return key.status(clock.now())

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """What is asked of a new key; what is shown of an old one."""
        if obj is None:
            return ("tenant", "name", "scopes", "expires_at", "current_password")
        return (*self.get_readonly_fields(request, obj), "at_once", "current_password")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Everything of a key that exists."""
        if obj is None:
            return ()
        return (
            "tenant", "name", "shown_prefix", "shown_status", "shown_scopes", "created_by",
            "created_at", "expires_at", "revoked_at", "last_used_at", "rotated_from",
        )  # fmt: skip

    @display(description="Scopes")
    def shown_scopes(self, key: ApiKey) -> str:
        """The scopes, as text."""
        return ", ".join(key.scopes)

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        """The form, knowing whose password to ask for."""
        kwargs["fields"] = ("tenant", "name", "expires_at") if obj is None else ()
        form = super().get_form(request, obj, **kwargs)
        return type("ApiKeyFormOf", (form,), {"operator": request.user})

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        """Create through the service; an existing key is only ever rotated or revoked."""
        if change:
            for button in self.get_actions_submit_line(request, obj.pk):
                if button.action_name in request.POST:
                    button.method(request, obj)
            return
        key, plaintext = services.create_api_key(
            tenant_id=obj.tenant_id,
            name=obj.name,
            actor=roles.actor_of(request.user),
            now=clock.now(),
            scopes=form.cleaned_data["scopes"],
            expires_at=obj.expires_at,
        )
        obj.pk = key.pk
        obj.lookup = key.lookup
        self._reveal(request, key, plaintext)

    @staticmethod
    def _reveal(request: HttpRequest, key: ApiKey, plaintext: str) -> None:
        request.new_key = (key, plaintext)  # type: ignore[attr-defined]

    @action(description="Rotate")
    def rotate(self, request: HttpRequest, obj: ApiKey) -> None:
        """Replace the key; the page that follows shows the successor once."""
        at_once = bool(request.POST.get("at_once"))
        key, plaintext = services.rotate_api_key(
            tenant_id=obj.tenant_id,
            lookup=obj.lookup,
            actor=roles.actor_of(request.user),
            now=clock.now(),
            overlap=timedelta(0) if at_once else timedelta(hours=24),
        )
        self._reveal(request, key, plaintext)

    @action(description="Revoke")
    def revoke(self, request: HttpRequest, obj: ApiKey) -> None:
        """End the key for good."""
        services.revoke_api_key(
            tenant_id=obj.tenant_id,
            lookup=obj.lookup,
            actor=roles.actor_of(request.user),
            now=clock.now(),
        )
        say(request, f"Revoked {obj.prefix}…; it stops working everywhere within five seconds.")

    def response_add(self, request: HttpRequest, obj: Any, *args: Any, **kw: Any) -> HttpResponse:
        """The plaintext, once: not a redirect, so that no cookie or session ever holds it."""
        return self._revealed(request) or super().response_add(request, obj, *args, **kw)

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        """The successor's plaintext after a rotation, once."""
        return self._revealed(request) or self.response_post_save_change(request, obj)

    def _revealed(self, request: HttpRequest) -> HttpResponse | None:
        revealed = getattr(request, "new_key", None)
        if revealed is None:
            return None
        key, plaintext = revealed
        context = {
            **self.admin_site.each_context(request),
            "title": "New API key",
            "opts": self.opts,
            "key": key,
            "plaintext": plaintext,
        }
        response = TemplateResponse(request, "admin/tenancy/apikey/revealed.html", context)
        response.headers["Cache-Control"] = "no-store"
        return response

    def construct_change_message(self, *args: Any, **kwargs: Any) -> list[Any]:
        """Django's own history says nothing of what was typed into the form."""
        return []


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    """The audit trail."""

    list_display = ("recorded_at", "tenant", "actor", "action", "object_id", "address")
    list_filter = ("action", "object_type", OWN_TENANTS)
    search_fields = ("actor", "action", "object_id", "request_id")
    list_select_related = ("tenant",)
    date_hierarchy = "recorded_at"
    ordering = ("-recorded_at", "-sequence")
    fields = (
        "tenant", "sequence", "recorded_at", "actor", "action", "object_type", "object_id",
        "before", "after", "request_id", "address", "shown_hash",
    )  # fmt: skip

    @display(description="Hash")
    def shown_hash(self, entry: AuditEntry) -> str:
        """The row's place in the chain."""
        return bytes(entry.hash).hex()


User = get_user_model()
admin.site.unregister(Group)
admin.site.unregister(User)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[type-arg,misc]  # unfold has no types
    """Operators. Only superusers make them; what they see is decided by memberships."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "is_active", "is_superuser", "last_login")
    list_filter = ("is_active", "is_superuser")
    filter_horizontal = ()
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("Access", {"fields": ("is_active", "is_staff", "is_superuser")}),
        ("Times", {"fields": ("last_login", "date_joined")}),
    )
    readonly_fields = ("last_login", "date_joined")

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save, with its audit row (in the trail without a tenant)."""
        with transaction.atomic():
            before = _values(User.objects.get(pk=obj.pk)) if change else None
            super().save_model(request, obj, form, change)
            record_change(request, obj, tenant_id=None, before=before, after=_values(obj))
