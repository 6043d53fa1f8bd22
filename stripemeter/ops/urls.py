"""Operator pages, under ``/admin/``. Each app adds its own."""

from django.urls import include, path

from stripemeter.ops import views

app_name = "ops"
urlpatterns = [
    path("", views.home, name="home"),
    path("tenant", views.choose_tenant, name="choose-tenant"),
    path("", include("ledger.ops_urls")),
    path("", include("counters.ops_urls")),
    path("", include("billing.ops_urls")),
    path("", include("reconciliation.ops_urls")),
]
