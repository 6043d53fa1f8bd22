"""API keys: listed, made, rotated, revoked. A key is shown once, on the answer that made it."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import patch_cache_control
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_POST

from stripemeter.lib import clock, text
from stripemeter.lib.errors import InvalidRequest, invalid
from stripemeter.lib.pages import PAGE_ROWS, Pager, back
from stripemeter.ops.passwords import check_password
from stripemeter.tenancy import selectors, services
from stripemeter.tenancy.operators import operator_page
from stripemeter.tenancy.scopes import ALL_SCOPES, DEFAULT_SCOPES

OVERLAP = timedelta(hours=24)


@require_GET
@operator_page("maintainer")
def api_keys(request: Any) -> HttpResponse:
    """The tenant's keys, newest first."""
    return _page(request)


def _page(request: Any, *, plaintext: str = "") -> HttpResponse:
    tenant = request.operator.tenant
    pager = Pager(request, tenant.key, "ops-keys", {})
    now = clock.now()
    rows = selectors.api_keys(tenant_id=tenant.pk, before_id=pager.after, limit=PAGE_ROWS + 1)
    context = {
        "title": "API keys",
        "plaintext": plaintext,
        "pager": pager,
        "rows": [
            {"key": key, "status": key.status(now)} for key in pager.cut(rows, lambda key: key.pk)
        ],
        "scopes": [(scope, scope in DEFAULT_SCOPES) for scope in sorted(ALL_SCOPES)],
    }
    response = render(request, "ops/api_keys.html", context)
    patch_cache_control(response, no_store=True)
    return response


@sensitive_post_parameters("current_password")
@require_POST
@operator_page("owner")
def create_key(request: Any) -> HttpResponse:
    """A new key; the answer shows it, and nothing ever shows it again."""
    name = str(request.POST.get("name", "")).strip()
    if not name or len(name) > 200 or text.FORBIDDEN.search(name):
        raise invalid("name", "must have 1 to 200 plain characters")
    check_password(request)
    _, plaintext = services.create_api_key(
        tenant_id=request.operator.tenant.pk,
        name=name,
        actor=request.operator.actor,
        now=clock.now(),
        scopes=request.POST.getlist("scopes"),
        expires_at=_expiry(str(request.POST.get("expires", ""))),
        live=request.POST.get("kind") != "test",
    )
    return _page(request, plaintext=plaintext)


def _expiry(written: str) -> datetime | None:
    if not written:
        return None
    try:
        return datetime.combine(date.fromisoformat(written), time(), UTC) + timedelta(days=1)
    except ValueError as error:
        raise InvalidRequest("The last day must be a date such as 2027-01-31.") from error


@sensitive_post_parameters("current_password")
@require_POST
@operator_page("owner")
def rotate_key(request: Any, lookup: str) -> HttpResponse:
    """A successor; the old key works 24 hours more."""
    check_password(request)
    _, plaintext = services.rotate_api_key(
        tenant_id=request.operator.tenant.pk,
        lookup=lookup,
        actor=request.operator.actor,
        now=clock.now(),
        overlap=OVERLAP,
    )
    return _page(request, plaintext=plaintext)


@require_POST
@operator_page("owner")
def revoke_key(request: Any, lookup: str) -> HttpResponse:
    """End a key within five seconds."""
    key = services.revoke_api_key(
        tenant_id=request.operator.tenant.pk,
        lookup=lookup,
        actor=request.operator.actor,
        now=clock.now(),
    )
    messages.success(request, f"{key.name} is revoked.")
    return back(request, reverse("ops:api-keys"))
