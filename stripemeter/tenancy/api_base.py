"""The base of every API view: authenticated, scoped, bound to the key's tenant."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, cast

from django.http import HttpRequest, HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from stripemeter.lib import metrics, rowsecurity
from stripemeter.lib.drf import problem_of
from stripemeter.lib.errors import Forbidden, invalid
from stripemeter.lib.http import problem_response
from stripemeter.lib.ratelimit import Verdict
from stripemeter.tenancy.authentication import require_scope
from stripemeter.tenancy.principals import Principal
from stripemeter.tenancy.recognition import authenticate_request
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
        self._admit(request, self.principal)

    def _admit(self, request: Request | HttpRequest, principal: Principal) -> None:
        """Count the request, show it its tenant's rows only, refuse what is said twice."""
        rate_class = self.rate_class or ("read" if request.method in {"GET", "HEAD"} else "write")
        self._verdict = throttle(principal, rate_class=rate_class, cost=self.rate_cost)
        rowsecurity.narrow(principal.tenant_id)
        if request.META.get("QUERY_STRING"):
            self._refuse_repeated(request)

    def _say_what_is_left(self, response: HttpResponse) -> None:
        if self._verdict is not None:
            for name, value in self._verdict.headers().items():
                response.headers[name] = value

    def _refuse_repeated(self, request: Request | HttpRequest) -> None:
        for name, values in request.GET.lists():
            if len(values) > 1 and name not in self.repeatable_parameters | {"tenantId"}:
                raise invalid(name[:100], "is given more than once", code="repeated")

    def finalize_response(
        self, request: Request, response: Any, *args: Any, **kwargs: Any
    ) -> Response:
        """Say what is left of the rate limit."""
        final = super().finalize_response(request, response, *args, **kwargs)
        self._say_what_is_left(final)
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
        named: list[Any] = list(self.request.GET.getlist("tenantId"))
        if isinstance(body, Mapping) and "tenantId" in body:
            named.append(body["tenantId"])
        for value in named:
            if not isinstance(value, str) or not value:
                raise invalid("tenantId", "must be a tenant id", code="invalid_tenant")
            if value != self.principal.tenant_key:
                raise tenant_mismatch(self.request)
        if required and not named:
            raise invalid("tenantId", "is required", code="required")


class DirectView(TenantView):
    """A `TenantView` whose ``direct_method`` goes without the framework's request and negotiation.

    The same key, scope, rate limit and tenant, in the same order, for half the time: for
    routes where a request costs less than what stands around it. Subclasses define
    ``answer(request)``; other methods and the API description stay the framework's.
    """

    direct_method = "POST"

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        """The view function: the one method directly, anything else through the framework."""
        framework: Callable[..., Any] = super().as_view(**initkwargs)

        @wraps(framework)
        def view(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            accepts = request.META.get("HTTP_ACCEPT", "*/*")
            if request.method != cls.direct_method or not ("*/*" in accepts or "json" in accepts):
                return framework(request, *args, **kwargs)
            return cls(**initkwargs).answer_directly(request)

        return view

    def answer(self, request: HttpRequest) -> HttpResponse:
        """The answer to an authenticated request. Raises `ProblemError`."""
        raise NotImplementedError

    def answer_directly(self, request: HttpRequest) -> HttpResponse:
        """Check the caller, answer, and say what is left of the rate limit."""
        try:
            principal = authenticate_request(request)
            require_scope(principal, self, request)
            request.user = principal  # type: ignore[assignment]
            self.request = request  # type: ignore[assignment]
            self._admit(request, principal)
            response = self.answer(request)
        except Exception as error:
            problem = problem_of(error)
            if problem is None:
                raise
            response = problem_response(problem)
        self._say_what_is_left(response)
        return response


def tenant_mismatch(request: Request | HttpRequest) -> Forbidden:
    """The refusal of a foreign tenant; the same for existing and unknown ones."""
    route = request.resolver_match.route if request.resolver_match else "unmatched"
    metrics.cross_tenant_blocks.labels(route, request.method or "").inc()
    return Forbidden("Mismatched tenantId", code="tenant_mismatch")
