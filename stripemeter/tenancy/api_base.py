"""The base of every API view: authenticated, scoped, bound to the key's tenant."""

from collections.abc import Mapping
from typing import Any, cast

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from stripemeter.lib import metrics, rowsecurity
from stripemeter.lib.errors import Forbidden, invalid
from stripemeter.lib.ratelimit import Verdict
from stripemeter.tenancy.principals import Principal
from stripemeter.tenancy.throttling import throttle


class TenantView(APIView):
    """One operation of the API for one tenant.

    Subclasses set ``scope_area``. ``self.principal`` is the caller; its tenant is the only
    one a view may touch, whatever the request says. ``rate_class`` names the bucket that
    requests are counted in (``read`` or ``write`` if empty), ``rate_cost`` how many tokens
    each takes. A query parameter may come once, unless it is in ``repeatable_parameters``.
    """

    scope_area = "project"
    rate_class = ""
    rate_cost = 1
    repeatable_parameters: frozenset[str] = frozenset()
    #: Only what a view defines; no OPTIONS, since nothing here is for browsers (no CORS).
    http_method_names = ["get", "head", "post", "put", "patch", "delete"]
    _verdict: Verdict | None = None

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        """The view function, marked as one that sees its tenant's rows only."""
        view = super().as_view(**initkwargs)
        view.narrows_to_tenant = True  # type: ignore[attr-defined]
        return view

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check the method, the key, its scope and rate limit; refuse what is said twice."""
        method = (request.method or "").lower()
        if method not in self.http_method_names or not hasattr(self, method):
            self.http_method_not_allowed(request)
        super().initial(request, *args, **kwargs)
        rate_class = self.rate_class or ("read" if request.method in {"GET", "HEAD"} else "write")
        self._verdict = throttle(self.principal, rate_class=rate_class, cost=self.rate_cost)
        rowsecurity.narrow(self.principal.tenant_id)
        if request.META.get("QUERY_STRING"):
            self._refuse_repeated(request)

    def _refuse_repeated(self, request: Request) -> None:
        for name, values in request.query_params.lists():
            if len(values) > 1 and name not in self.repeatable_parameters | {"tenantId"}:
                raise invalid(name[:100], "is given more than once", code="repeated")

    def finalize_response(
        self, request: Request, response: Any, *args: Any, **kwargs: Any
    ) -> Response:
        """Say what is left of the rate limit."""
        final = super().finalize_response(request, response, *args, **kwargs)
        if self._verdict is not None:
            for name, value in self._verdict.headers().items():
                final.headers[name] = value
        return final

    @property
    def principal(self) -> Principal:
        """The authenticated caller."""
        return cast(Principal, self.request.user)

    def check_tenant(self, body: Any = None, *, required: bool = False) -> None:
        """Refuse a request that names any other tenant, in the query or in the body.

        Every place is checked, not the first found. Raises `Forbidden`, or `InvalidRequest`
        if ``required`` and no ``tenantId`` is given.
        """
        named: list[Any] = list(self.request.query_params.getlist("tenantId"))
        if isinstance(body, Mapping) and "tenantId" in body:
            named.append(body["tenantId"])
        for value in named:
            if not isinstance(value, str) or not value:
                raise invalid("tenantId", "must be a tenant id", code="invalid_tenant")
            if value != self.principal.tenant_key:
                raise tenant_mismatch(self.request)
        if required and not named:
            raise invalid("tenantId", "is required", code="required")


def tenant_mismatch(request: Request) -> Forbidden:
    """The refusal of a foreign tenant; the same for existing and unknown ones."""
    route = request.resolver_match.route if request.resolver_match else "unmatched"
    metrics.cross_tenant_blocks.labels(route, request.method or "").inc()
    return Forbidden("Mismatched tenantId", code="tenant_mismatch")
