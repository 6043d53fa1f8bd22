"""Routes of tenancy."""

from django.urls import path

from stripemeter.tenancy import api

urlpatterns = [
    path("v1/admin/api-keys", api.ApiKeysView.as_view(), name="api-keys"),
    path("v1/admin/api-keys/<str:key_id>", api.ApiKeyView.as_view(), name="api-key"),
    path(
        "v1/admin/api-keys/<str:key_id>/rotate",
        api.RotateApiKeyView.as_view(),
        name="api-key-rotate",
    ),
    path(
        "v1/admin/api-keys/<str:key_id>/revoke",
        api.RevokeApiKeyView.as_view(),
        name="api-key-revoke",
    ),
]
