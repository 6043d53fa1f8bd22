"""Every route of the service. API routes answer with and without a trailing slash."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("stripemeter.tenancy.urls")),
    path("admin/", admin.site.urls),
    path("", include("ledger.urls")),
    path("", include("counters.urls")),
]
