"""Records: the tables that Django's admin shows, since its own index is this dashboard."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from stripemeter.tenancy.operators import operator_page

#: What the apps of libraries hold.
_HOLDS = {"auth": "People", "axes": "Sign-in attempts", "djstripe": "Mirror of Stripe"}


def tables_of(request: HttpRequest) -> list[dict[str, Any]]:
    """Apps whose tables the person may look at: ``name`` and ``models``."""
    apps = [
        {
            "name": _HOLDS.get(app["app_label"], app["name"]),
            "models": [model for model in app["models"] if model.get("admin_url")],
        }
        for app in admin.site.get_app_list(request)
    ]
    return [app for app in apps if app["models"]]


@require_GET
@operator_page()
def records(request: Any) -> HttpResponse:
    """What there is to look at, by app."""
    context = {"title": "Records", "apps": tables_of(request)}
    return render(request, "ops/records.html", context)


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar of the admin's own lists: the way back, then the tables by app."""
    back = [
        {"title": "Dashboard", "icon": "arrow_back", "link": reverse("ops:home"), "active": False},
        {"title": "All records", "icon": "table", "link": reverse("ops:records"), "active": False},
    ]
    return [{"items": back}] + [
        {
            "title": app["name"],
            "separator": place == 0,
            "items": [
                {"title": model["name"], "link": model["admin_url"]} for model in app["models"]
            ],
        }
        for place, app in enumerate(tables_of(request))
    ]
