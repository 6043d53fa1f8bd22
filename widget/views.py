"""The customer's page: one frame, refreshed in place; read only, without cookies."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils import translation
from django.views.decorators.http import require_GET

from counters.selectors import period_of
from ledger import selectors as ledger
from ledger.models import Metric
from stripemeter.lib import clock, cursors
from stripemeter.lib.cells import csv_line
from stripemeter.lib.errors import Forbidden, ProblemError, Unauthenticated
from stripemeter.lib.http import json_response
from stripemeter.lib.instants import parse_instant, rfc3339
from widget.access import Viewer, bearer_token, viewer_of
from widget.page import Page, as_json, read_page

THEMES = ("auto", "light", "dark")
LOCALES = ("en", "de", "es", "fr", "ja")
EVENTS_SHOWN, EVENTS_DOWNLOADED_MAX = 50, 100_000
REFRESH_SECONDS = 30


def _with_viewer(view: Callable[[Any, Viewer], HttpResponse]) -> Callable[[Any], HttpResponse]:
    """Read the bearer token; API keys, cookies and query parameters open nothing here."""

    @require_GET
    def guarded(request: HttpRequest) -> HttpResponse:
        viewer = viewer_of(bearer_token(request), now=clock.now())
        _refuse_others(request, viewer)
        with translation.override(_choice(request, "locale", LOCALES)):
            response = view(request, viewer)
        response["Cache-Control"] = "no-store"
        response["Referrer-Policy"] = "no-referrer"
        return response

    return guarded


def _refuse_others(request: HttpRequest, viewer: Viewer) -> None:
    """Whose page it is stands in the token; naming anybody else is refused, not ignored."""
    others = {*request.GET.getlist("customerRef")} - {viewer.customer_ref}
    if others or {*request.GET.getlist("tenantId")} - {viewer.tenant.key}:
        raise Forbidden("The token is for another customer.", code="customer_mismatch")


def _choice(request: HttpRequest, name: str, known: tuple[str, ...]) -> str:
    value = request.GET.get(name, "")[:20].lower()
    value = value if value in known else value.partition("-")[0]
    return value if value in known else known[0]


def _page(template: str, context: dict[str, Any], *, status: int = 200) -> HttpResponse:
    # Without a request context: nothing of an operator's session can get into the page.
    return HttpResponse(render_to_string(template, context), status=status)


@_with_viewer
def usage(_request: Any, viewer: Viewer) -> HttpResponse:
    """``GET /widget/usage``: the page's numbers as JSON."""
    return json_response(as_json(read_page(viewer, now=clock.now())))


@_with_viewer
def body(request: Any, viewer: Viewer) -> HttpResponse:
    """``GET /widget/usage/body``: the page's content, for the refresh in place."""
    return _page("widget/_body.html", _context(request, viewer))


@_with_viewer
def events(request: Any, viewer: Viewer) -> HttpResponse:
    """``GET /widget/usage/events``: the events behind one number, newest first, in pages."""
    metric = _metric(request, viewer)
    place: dict[str, Any] = {
        "tenant_key": viewer.tenant.key,
        "listing": "widget-events",
        "filters": {"customer": viewer.customer_ref, "metric": metric.name},
    }
    after = None
    if request.GET.get("cursor"):
        ts, key = cursors.decode(request.GET["cursor"], **place)
        after = (parse_instant(ts), UUID(key))
    found = ledger.list_events(_own_events(viewer, metric), limit=EVENTS_SHOWN + 1, after=after)
    following = ""
    if len(found) > EVENTS_SHOWN:
        found = found[:EVENTS_SHOWN]
        following = cursors.encode([rfc3339(found[-1].ts), str(found[-1].key)], **place)
    context = {"events": found, "metric": metric, "following": following, "first": after is None}
    return _page("widget/_events.html", context)


@_with_viewer
def events_csv(request: Any, viewer: Viewer) -> HttpResponse:
    """``GET /widget/usage/events.csv``: every event of the period behind one number."""
    metric = _metric(request, viewer)
    found = ledger.list_events(_own_events(viewer, metric), limit=EVENTS_DOWNLOADED_MAX)
    lines = [csv_line(["key", "metric", "quantity", "time", "resource", "source"])]
    lines += [
        csv_line(
            [event.id, event.metric, event.quantity, event.ts, event.resource_id, event.source]
        )
        for event in found
    ]
    response = HttpResponse("".join(lines), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="usage.csv"'
    return response


def _metric(request: HttpRequest, viewer: Viewer) -> Metric:
    name = request.GET.get("metric", "")
    metric = Metric.objects.filter(tenant=viewer.tenant, name=name[:100]).first()
    if metric is None or not viewer.shows(metric.name):
        raise Unauthenticated("This metric is not part of the widget.", code="invalid_token")
    return metric


def _own_events(viewer: Viewer, metric: Metric) -> ledger.EventFilter:
    period = period_of(
        tenant_id=viewer.tenant.pk, customer_ref=viewer.customer_ref, instant=clock.now()
    )
    return ledger.EventFilter(
        tenant_id=viewer.tenant.pk,
        metric_id=metric.pk,
        customer_ref=viewer.customer_ref,
        start=period.start,
        # The list includes its end, a period does not.
        end=period.end - timedelta(microseconds=1),
    )


def _context(request: HttpRequest, viewer: Viewer) -> dict[str, Any]:
    page: Page = read_page(viewer, now=clock.now())
    return {"page": page, "compact": request.GET.get("compact") == "1"}


@require_GET
def embed(request: HttpRequest) -> HttpResponse:
    """``GET /widget/embed``: the frame. Only the token's origins may hold it."""
    token = request.GET.get("token", "")
    theme = _choice(request, "theme", THEMES)
    locale = _choice(request, "locale", LOCALES)
    with translation.override(locale):
        try:
            viewer = viewer_of(token, now=clock.now())
        except ProblemError as problem:
            refusal = {"theme": theme, "locale": locale}
            response = _page("widget/refused.html", refusal, status=problem.status)
            return _framed(response, ["'none'"])
        context = {
            **_context(request, viewer),
            "theme": theme,
            "locale": locale,
            "token": token,
            "origins": viewer.session.origins,
            "expires_at": viewer.session.expires_at,
            "refresh": REFRESH_SECONDS,
        }
        response = _page("widget/embed.html", context)
    return _framed(response, viewer.session.origins)


def _framed(response: HttpResponse, ancestors: list[str]) -> HttpResponse:
    response["Content-Security-Policy"] = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors {' '.join(ancestors)}"
    )
    response["Cache-Control"] = "no-store"
    response["Referrer-Policy"] = "no-referrer"
    return response
