"""Every route of the service. API routes answer with and without a trailing slash."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from stripemeter import apidocs, health

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="ops:home"), name="root"),
    path("favicon.ico", RedirectView.as_view(url=f"{settings.STATIC_URL}img/mark.svg")),
    path("health", health.health, name="health"),
    path("health/live", health.live, name="health-live"),
    path("health/ready", health.ready, name="health-ready"),
    path("metrics", health.prometheus, name="metrics"),
    path("v1/openapi.json", apidocs.openapi, name="openapi"),
    path("docs", apidocs.docs, name="docs"),
    path("docs/", apidocs.docs),
    path("docs/json", apidocs.docs_json, name="docs-json"),
    path("", include("stripemeter.tenancy.urls")),
    # Operator pages come first; what they do not know is Django's admin.
    path("admin/", include("stripemeter.ops.urls")),
    path("admin/", admin.site.urls),
    path("", include("ledger.urls")),
    path("", include("counters.urls")),
    path("", include("billing.urls")),
    path("", include("widget.urls")),
    path("", include("reconciliation.urls")),
]

handler500 = "stripemeter.errorpages.server_error"
