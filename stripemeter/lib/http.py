"""How answers and problems are written to the wire."""

from typing import Any

from django.http import HttpRequest, HttpResponse

from stripemeter.lib import requestid, strictjson
from stripemeter.lib.errors import ProblemError

PROBLEM_JSON = "application/problem+json"


def json_response(
    payload: Any, *, status: int = 200, decimals_as_text: bool = False
) -> HttpResponse:
    """An ``application/json`` answer; Decimals exactly as JSON numbers or as strings."""
    body = strictjson.dumps(payload, decimals_as_text=decimals_as_text)
    return HttpResponse(body, status=status, content_type="application/json")


def problem_response(problem: ProblemError) -> HttpResponse:
    """RFC 9457 problem details, with the ``error`` and ``message`` older callers read."""
    body: dict[str, Any] = {
        "type": f"urn:stripemeter:problem:{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        "requestId": requestid.current(),
        "error": problem.title,
        "message": problem.detail,
        **problem.extra,
    }
    if problem.errors:
        body["errors"] = [error.as_wire() for error in problem.errors]
    response = HttpResponse(
        strictjson.dumps(body), status=problem.status, content_type=PROBLEM_JSON
    )
    for name, value in problem.headers.items():
        response[name] = value
    return response


def wants_decimals_as_text(request: HttpRequest) -> bool:
    """Whether the caller asked for strings: ``?decimals=string`` or ``X-Decimals: string``."""
    return "string" in (request.GET.get("decimals"), request.headers.get("X-Decimals"))
