"""The outer edge of every request: its id, its problem answers, its metrics.

API routes go straight to their view: they have no session, no CSRF, no messages, and the
ingest path counts microseconds.
"""

import time
from collections.abc import Callable

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.template.response import SimpleTemplateResponse
from django.urls import Resolver404, ResolverMatch, resolve

from stripemeter.lib import addresses, edge, metrics, requestid, rowsecurity
from stripemeter.lib.drf import problem_of
from stripemeter.lib.errors import Forbidden, NotFound, ProblemError
from stripemeter.lib.http import problem_response
from stripemeter.lib.logs import get_logger

log = get_logger(__name__)

API_PREFIXES = ("/v1/", "/webhooks/", "/health", "/metrics", "/widget/")

_STATIC_ROUTES_MAX = 500
_static_routes: dict[str, ResolverMatch] = {}


class RequestEdgeMiddleware:
    """Gives each request an id, answers API routes directly and never leaks a traceback."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer ``request``."""
        started = time.perf_counter()
        request_id = requestid.begin(request.META.get("HTTP_X_REQUEST_ID"))
        addresses.begin(request.META)
        if request.method not in edge.METHODS:
            response: HttpResponseBase = _answer_unknown_method(request)
        elif request.path_info.startswith(API_PREFIXES):
            response = _answer_api(request)
        else:
            rowsecurity.widen()
            response = self.get_response(request)
        response.headers["X-Request-Id"] = request_id
        route = request.resolver_match.route if request.resolver_match else "unmatched"
        metrics.observe_request(
            request.method or "", route, response.status_code, time.perf_counter() - started
        )
        return response


def _resolve(path: str) -> ResolverMatch:
    """The view of ``path``; an API route answers with and without a trailing slash."""
    match = _static_routes.get(path)
    if match is None:
        match = resolve(path[:-1] if path.endswith("/") else path)
        if not match.kwargs and not match.args and len(_static_routes) < _STATIC_ROUTES_MAX:
            _static_routes[path] = match
    return match


def _answer_api(request: HttpRequest) -> HttpResponseBase:
    try:
        edge.refuse_malformed(request.META, request.path_info)
        if settings.SECURE_SSL_REDIRECT and not request.is_secure():
            _refuse_plain_text(request.path_info)
        match = _resolve(request.path_info)
        request.resolver_match = match
        if not getattr(match.func, "narrows_to_tenant", False):
            rowsecurity.widen()
        response: HttpResponseBase = match.func(request, *match.args, **match.kwargs)
        if isinstance(response, SimpleTemplateResponse) and not response.is_rendered:
            response = response.render()
    except Resolver404:
        detail = f"Route {request.method}:{request.path_info} not found"
        response = problem_response(NotFound(detail, code="route_not_found"))
    except (ProblemError, Http404, RequestDataTooBig) as error:
        response = problem_response(problem_of(error) or NotFound())
    except Exception as error:  # the last line of defence: log it, answer without detail
        response = _answer_failure(error)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault("Cache-Control", "no-store")
    if isinstance(response, HttpResponse):
        # Without it the server would chunk the answer.
        response.headers.setdefault("Content-Length", str(len(response.content)))
    return response


def _answer_unknown_method(request: HttpRequest) -> HttpResponse:
    response = problem_response(edge.method_problem(request.method or ""))
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _refuse_plain_text(path: str) -> None:
    """A key sent in clear is refused, not redirected: a redirect would teach nobody."""
    if not path.startswith(("/health", "/metrics")):
        raise Forbidden("Use https.", code="tls_required")


def _answer_failure(error: Exception) -> HttpResponse:
    problem = problem_of(error)
    if problem is None:
        log.exception("request.failed")
        problem = ProblemError(
            "An internal error occurred. Quote the request id to the operator.",
            code="internal_error",
            status=500,
            title="Internal error",
        )
    return problem_response(problem)
