"""Records: the tables that Django's admin shows, since its own index is this dashboard."""

from typing import Any

from django.contrib import admin
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from stripemeter.tenancy.operators import operator_page


@require_GET
@operator_page()
def records(request: Any) -> HttpResponse:
    """What there is to look at, by app."""
    apps = [
        {
            "name": app["name"],
            "models": [model for model in app["models"] if model.get("admin_url")],
        }
        for app in admin.site.get_app_list(request)
    ]
    context = {"title": "Records", "apps": [app for app in apps if app["models"]]}
    return render(request, "ops/records.html", context)
