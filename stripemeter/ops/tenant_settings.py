"""Settings: what the tenant decides, and what the installation decides for all tenants."""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import NoReverseMatch, reverse
from django.views.decorators.http import require_http_methods

from stripemeter.lib import clock
from stripemeter.lib.decimals import plain
from stripemeter.lib.errors import Forbidden, ProblemError
from stripemeter.tenancy import members
from stripemeter.tenancy import tenant_settings as writes
from stripemeter.tenancy.models import Tenant
from stripemeter.tenancy.operators import operator_page

_NAMES = {
    "name": "name",
    "lateness_window_hours": "lateness window",
    "late_policy": "late events",
    "single_operator": "four eyes",
    "adjustment_cap": "cap of adjustments",
    "epsilon": "severity",
}


@require_http_methods(["GET", "HEAD", "POST"])
@operator_page("maintainer")
def tenant_settings(request: Any) -> HttpResponse:
    """The tenant's settings; owners change them."""
    operator = request.operator
    problem = None
    if request.method == "POST":
        if not operator.is_owner:
            raise Forbidden("The settings of a tenant are changed by its owners.")
        try:
            changed = writes.change_settings(
                tenant_id=operator.tenant.pk,
                wanted=writes.read_settings(request.POST.dict()),
                actor=operator.actor,
                now=clock.now(),
            )
        except ProblemError as refused:
            problem = refused
        else:
            told = ", ".join(_NAMES[name] for name in changed)
            messages.success(request, f"In force now: {told}." if changed else "Nothing changed.")
            return redirect("ops:settings")
    context = {
        "title": "Settings",
        "given": request.POST if problem else _shown(operator.tenant),
        "problem": problem,
        "wrong": {error.field: error.detail for error in problem.errors} if problem else {},
        "policies": Tenant.LatePolicy.choices,
        "deciding": members.operators_who_decide(operator.tenant.pk),
        "hours_max": writes.LATENESS_HOURS_MAX,
        "tenant": operator.tenant,
        "calendars_url": _periods_url(),
        "installation": _installation(),
    }
    return render(request, "ops/settings.html", context, status=problem.status if problem else 200)


def _periods_url() -> str:
    try:
        return reverse("ops:periods")
    except NoReverseMatch:
        return ""


def _shown(tenant: Tenant) -> dict[str, str]:
    held = writes.settings_of(tenant)
    return {
        "name": held.name,
        "lateness_window_hours": str(held.lateness_window_hours),
        "late_policy": held.late_policy,
        "single_operator": "on" if held.single_operator else "",
        "adjustment_cap": "" if held.adjustment_cap is None else plain(held.adjustment_cap),
        "epsilon": plain(held.epsilon),
    }


def _installation() -> list[tuple[str, str, str]]:
    """(what, value, environment variable) of limits that hold for every tenant."""
    seconds, per_key = settings.TENANT_RATE_LIMIT_WINDOW, settings.KEY_RATE_LIMIT
    return [
        ("Requests of a tenant", f"{settings.TENANT_RATE_LIMIT:,} in {seconds} s",
         "TENANT_RATE_LIMIT"),
        ("Requests of one key", f"{per_key:,} in {seconds} s" if per_key else "as its tenant",
         "KEY_RATE_LIMIT"),
        ("Events in one request", f"{settings.MAX_INGEST_BATCH:,}", "MAX_INGEST_BATCH"),
        ("Events in one backfill request", f"{settings.MAX_BACKFILL_EVENTS:,}",
         "MAX_BACKFILL_EVENTS"),
        ("Size of an event's meta", f"{settings.MAX_EVENT_META_BYTES:,} bytes",
         "MAX_EVENT_META_BYTES"),
        ("Events from the future", f"up to {settings.FUTURE_TOLERANCE_SECONDS:,} s ahead",
         "FUTURE_TOLERANCE_SECONDS"),
        ("Pushes to Stripe", f"every {settings.PUSH_INTERVAL_SECONDS:,} s",
         "PUSH_INTERVAL_SECONDS"),
        ("Reconciliation", f"every {settings.RECONCILIATION_INTERVAL_SECONDS:,} s",
         "RECONCILIATION_INTERVAL_SECONDS"),
        ("Sign-in ends after silence of", f"{settings.SESSION_IDLE_SECONDS // 60} min", ""),
        ("Sign-in ends in any case after", f"{settings.SESSION_COOKIE_AGE // 3600} h", ""),
    ]  # fmt: skip
