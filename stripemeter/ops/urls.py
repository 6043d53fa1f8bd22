"""Operator pages, under ``/admin/``. Each app adds its own."""

from django.urls import include, path

from stripemeter.ops import keys, members, records, search, tenant_settings, trail, views

app_name = "ops"
urlpatterns = [
    path("", views.home, name="home"),
    path("tenant", views.choose_tenant, name="choose-tenant"),
    path("search", search.search, name="search"),
    path("api-keys/", keys.api_keys, name="api-keys"),
    path("api-keys/new", keys.create_key, name="api-key-new"),
    path("api-keys/<str:lookup>/rotate", keys.rotate_key, name="api-key-rotate"),
    path("api-keys/<str:lookup>/revoke", keys.revoke_key, name="api-key-revoke"),
    path("members/", members.members, name="members"),
    path("members/add", members.add_member, name="member-add"),
    path("members/<int:user_id>/role", members.change_role, name="member-role"),
    path("members/<int:user_id>/invite", members.invite_again, name="member-invite"),
    path("members/<int:user_id>/remove", members.remove_member, name="member-remove"),
    path("invitation/<str:uidb64>/<str:token>/", members.Invitation.as_view(), name="invitation"),
    path("settings/", tenant_settings.tenant_settings, name="settings"),
    path("audit/", trail.audit_trail, name="audit"),
    path("records/", records.records, name="records"),
    path("system/", trail.system, name="system"),
    path("", include("ledger.ops_urls")),
    path("", include("counters.ops_urls")),
    path("", include("billing.ops_urls")),
    path("", include("reconciliation.ops_urls")),
]
