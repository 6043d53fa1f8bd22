"""A Django site that meters itself: one event for each request, one for each report it makes.

    python django_app.py 8001

STRIPEMETER_URL, STRIPEMETER_TENANT and STRIPEMETER_API_KEY say where the usage goes. Here the whole
site is one file; in a project, `METER` and the middleware go into a module of their own.
"""

import os
import signal
import sys
from collections.abc import Callable
from wsgiref.simple_server import make_server

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from stripemeter import StripeMeterClient

# One client for the process. Gunicorn's forked workers each get an empty buffer of their own.
METER = StripeMeterClient(
    os.environ["STRIPEMETER_URL"],
    os.environ["STRIPEMETER_TENANT"],
    api_key=os.environ.get("STRIPEMETER_API_KEY"),
    spool_dir=os.environ.get("STRIPEMETER_SPOOL"),
    close_timeout=30,
)


class MeterRequests:
    """Middleware: buffers one `api_calls` event for each request that was answered."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        customer = request.headers.get("X-Customer")
        if customer and response.status_code < 500:
            METER.buffer("api_calls", customer, meta={"path": request.path})
        return response


def hello(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"hello": "world"})


def make_report(request: HttpRequest, report_id: str) -> HttpResponse:
    """A report counts once, however often the request is repeated: its id is the key."""
    result = METER.track(
        "report_pages", request.headers["X-Customer"], quantity=12,
        ts="2026-11-01T00:00:00Z", idempotency_key=f"report-{report_id}",
    )  # fmt: skip
    return JsonResponse({"report": report_id, "status": result.results[0].status})


urlpatterns = [path("hello", hello), path("reports/<str:report_id>", make_report)]


def main(port: int) -> None:
    settings.configure(
        ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"], SECRET_KEY=os.urandom(32).hex(),
        MIDDLEWARE=[f"{__name__}.MeterRequests"],
    )  # fmt: skip
    django.setup()
    # SIGTERM ends the process the ordinary way, and then the client sends what is in its buffer.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with make_server("127.0.0.1", port, get_wsgi_application()) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
