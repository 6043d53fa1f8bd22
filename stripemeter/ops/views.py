"""The dashboard's own pages: home (a layout of panels) and the choice of tenant."""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import NoReverseMatch, reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_GET, require_POST

from stripemeter.tenancy.operators import SESSION_TENANT, operator_page, tenants_of

#: Panels of the home page; each is loaded from its own app, refreshes itself and says how old
#: it is. A panel whose app offers none yet is left out.
PANELS = (
    "ops:ingest-panel",
    "ops:freshness-panel",
    "ops:push-panel",
    "ops:money-panel",
    "ops:reconciliation-panel",
    "ops:accounts-panel",
    "ops:periods-panel",
    "ops:alerts-panel",
)


@require_GET
@operator_page()
def home(request: Any) -> HttpResponse:
    """Home: how the tenant's metering is doing, at one look."""
    panels = []
    for name in PANELS:
        try:
            panels.append({"url": reverse(name), "id": name.removeprefix("ops:")})
        except NoReverseMatch:
            continue
    return render(request, "ops/home.html", {"panels": panels, "title": "Home"})


@require_POST
@operator_page()
def choose_tenant(request: Any) -> HttpResponse:
    """Work in another tenant from now on."""
    chosen = request.POST.get("tenant", "")
    if chosen in {tenant.key for tenant in tenants_of(request.user)}:
        request.session[SESSION_TENANT] = chosen
    back = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()})
    return redirect(back if safe else reverse("ops:home"))
