"""Operators: people who sign in, with a role in each tenant they belong to.

Every page and action names the role it needs. Superusers count as owners everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from stripemeter.lib.errors import NotFound, ProblemError
from stripemeter.tenancy.models import Membership, Tenant

SESSION_TENANT = "tenant"
RANK = {"viewer": 1, "maintainer": 2, "owner": 3}


@dataclass(frozen=True, slots=True)
class Operator:
    """A signed-in person working in one tenant."""

    user: User
    tenant: Tenant
    role: str

    @property
    def actor(self) -> str:
        """How audit rows and approvals name this person."""
        return f"user:{self.user.get_username()}"

    def may(self, role: str) -> bool:
        """Whether this person's role is at least ``role``."""
        return RANK[self.role] >= RANK[role]

    @property
    def is_maintainer(self) -> bool:
        """May change things; for templates."""
        return self.may("maintainer")

    @property
    def is_owner(self) -> bool:
        """May do everything; for templates."""
        return self.may("owner")


class OperatorRequest(HttpRequest):
    """A request that has passed `operator_page`."""

    operator: Operator


_View = Callable[..., HttpResponse]


def tenants_of(user: Any) -> list[Tenant]:
    """Tenants the person may work in, by id."""
    if not user.is_authenticated or not user.is_active or not user.is_staff:
        return []
    tenants = Tenant.objects.filter(is_active=True)
    if not user.is_superuser:
        tenants = tenants.filter(memberships__user=user)
    return list(tenants.order_by("key"))


def operator_of(request: HttpRequest) -> Operator | None:
    """The person and the tenant chosen in the session, or None if there is none."""
    tenants = tenants_of(request.user)
    if not tenants or not isinstance(request.user, User):
        return None
    chosen = request.session.get(SESSION_TENANT)
    tenant = next((tenant for tenant in tenants if tenant.key == chosen), tenants[0])
    if request.user.is_superuser:
        return Operator(request.user, tenant, "owner")
    role = Membership.objects.get(tenant=tenant, user=request.user).role
    return Operator(request.user, tenant, role)


def operator_page(role: str = "viewer") -> Callable[[_View], _View]:
    """Let operators of at least ``role`` through; ``request.operator`` says who it is.

    Others are sent to the sign-in page (a whole page also from an htmx request), or told
    which role it takes. What a service refuses is told on a page with its status.
    """

    def decorate(view: _View) -> _View:
        @wraps(view)
        def guarded(request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
            if not request.user.is_authenticated:
                return _to_sign_in(request)
            operator = operator_of(request)
            if operator is None or not operator.may(role):
                context = {"needed": role, "operator": operator}
                return render(request, "ops/forbidden.html", context, status=403)
            request.operator = operator
            try:
                return view(request, *args, **kwargs)
            except (ProblemError, Http404) as refused:
                problem = refused if isinstance(refused, ProblemError) else NotFound()
                told: dict[str, Any] = {"problem": problem, "came_from": _came_from(request)}
                return render(request, "ops/problem.html", told, status=problem.status)

        guarded.operator_role = role  # type: ignore[attr-defined]
        return guarded

    return decorate


def _came_from(request: HttpRequest) -> str:
    """The page of ours whose form was refused; empty if the browser names none."""
    page = request.headers.get("Referer", "")
    return page if url_has_allowed_host_and_scheme(page, {request.get_host()}) else ""


def _to_sign_in(request: HttpRequest) -> HttpResponse:
    if request.headers.get("HX-Request"):
        # Swapping a sign-in form into a table would be nonsense: reload the whole page.
        back = request.headers.get("HX-Current-URL-abs-path") or reverse("ops:home")
        response = HttpResponse(status=401)
        response["HX-Redirect"] = f"{reverse('admin:login')}?{urlencode({'next': back})}"
        return response
    query = urlencode({"next": request.get_full_path()})
    return HttpResponseRedirect(f"{reverse('admin:login')}?{query}")
