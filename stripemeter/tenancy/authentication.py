"""Authentication and scopes, as Django REST framework asks for them."""

from typing import Any, cast

from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from stripemeter.lib import metrics
from stripemeter.lib.errors import Forbidden
from stripemeter.tenancy import scopes
from stripemeter.tenancy.principals import Principal
from stripemeter.tenancy.recognition import (
    authenticate_request,
    credential_of,
    forget_cached_keys,
    principal_for,
)

__all__ = [
    "ApiKeyAuthentication",
    "HasScope",
    "authenticate_request",
    "credential_of",
    "forget_cached_keys",
    "principal_for",
    "require_scope",
    "required_scopes",
]


class ApiKeyAuthentication(BaseAuthentication):
    """Django REST framework's view of `authenticate_request`."""

    def authenticate(self, request: Request) -> tuple[Any, Any]:
        """The principal as user, and no separate token."""
        return authenticate_request(request._request), None

    def authenticate_header(self, request: Request) -> str:
        """What 401 answers carry in ``WWW-Authenticate``."""
        return 'Bearer realm="stripemeter"'


class HasScope(BasePermission):
    """Allows a request whose key holds any scope of the view's area.

    A view names ``scope_area`` (read for safe methods, write for others) or, where a POST
    only reads, ``scope_verbs = {"POST": "read"}``; ``required_scopes`` overrides both.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        """True, or raises `Forbidden` naming the scopes that would do."""
        require_scope(cast(Principal, request.user), view, request)
        return True


def require_scope(principal: Principal, view: Any, request: Request | HttpRequest) -> None:
    """Raise `Forbidden`, naming the scopes that would do, if ``principal`` holds none."""
    method = request.method or ""
    needed = required_scopes(view, method)
    if principal.holds_any(needed):
        return
    route = request.resolver_match.route if request.resolver_match else "unmatched"
    metrics.scope_denials.labels(route, method).inc()
    raise Forbidden(f"Require one of: {','.join(needed)}", code="missing_scope")


def required_scopes(view: Any, method: str) -> tuple[str, ...]:
    """The scopes any one of which opens ``view`` for ``method``."""
    explicit = getattr(view, "required_scopes", None)
    if explicit is not None:
        return tuple(explicit)
    verbs = getattr(view, "scope_verbs", {})
    verb = verbs.get(method) or ("read" if method in {"GET", "HEAD", "OPTIONS"} else "write")
    return scopes.allowing(view.scope_area, verb)
