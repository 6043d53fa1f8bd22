"""The page of a defect; what a browser shows of other refusals is templates/40*.html."""

from django.http import HttpRequest, HttpResponse, HttpResponseServerError
from django.template import loader

from stripemeter.lib import requestid


def server_error(request: HttpRequest) -> HttpResponse:
    """Says which request it was, and asks no context processor: those may be what failed."""
    page = loader.render_to_string("500.html", {"request_id": requestid.current()})
    return HttpResponseServerError(page)
