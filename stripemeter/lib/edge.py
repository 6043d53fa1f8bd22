"""Requests that no route should have to think about are refused before any is chosen.

What the web server (granian) answers itself, before this: two or malformed Content-Length,
unknown transfer codings, bare CR in a header, more than about 100 headers or 400 KiB of
them, slow headers. It joins repeated headers with a comma and drops non-ASCII values.
"""

import re
from collections.abc import Mapping
from typing import Any

from stripemeter.lib import errors

HEADER_BYTES_MAX = 32_768
QUERY_CHARS_MAX = 8_192
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: Headers that mean one thing only; a comma shows that two were sent.
_SINGLE = ("HTTP_AUTHORIZATION", "HTTP_X_API_KEY", "HTTP_IDEMPOTENCY_KEY", "CONTENT_TYPE")
_KEY_IN_URL = re.compile(r"sm_(?:live|test)_|(?:^|&)(?:api[_-]?key|apikey|access_token)=", re.I)
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffd]")


def method_problem(method: str) -> errors.ProblemError:
    """The refusal of TRACE, CONNECT and whatever else no route takes."""
    return errors.ProblemError(
        f"Method {method[:20]!r} is not supported.",
        code="method_not_allowed",
        status=405,
        title="Method not allowed",
        headers={"Allow": "GET, HEAD, POST, PUT, PATCH, DELETE"},
    )


def refuse_malformed(meta: Mapping[str, Any], path: str) -> None:
    """Raise the `ProblemError` of an API request that is wrong whatever its route."""
    if _UNPRINTABLE.search(path):
        raise errors.NotFound("No such route", code="route_not_found")
    query = meta.get("QUERY_STRING")
    if query:
        _refuse_query(query)
    for name in _SINGLE:
        value = meta.get(name)
        if value and "," in value and not (name == "CONTENT_TYPE" and '"' in value):
            header = name.removeprefix("HTTP_").replace("_", "-").title()
            raise errors.InvalidRequest(
                f"{header} must be sent once, without a comma.", code="repeated_header"
            )
    if "HTTP_TRANSFER_ENCODING" in meta:
        raise errors.InvalidRequest(
            "Chunked bodies are not taken: send Content-Length.", code="length_required"
        )
    size = 0
    for name, value in meta.items():
        if name[:5] == "HTTP_":
            size += len(name) + len(value)
    if size > HEADER_BYTES_MAX:
        raise errors.ProblemError(
            f"The headers may have at most {HEADER_BYTES_MAX} bytes.",
            code="headers_too_large",
            status=431,
            title="Headers too large",
        )


def _refuse_query(query: str) -> None:
    if len(query) > QUERY_CHARS_MAX:
        raise errors.ProblemError(
            f"The query string may have at most {QUERY_CHARS_MAX} characters.",
            code="uri_too_long",
            status=414,
            title="URI too long",
        )
    if _KEY_IN_URL.search(query):
        raise errors.Unauthenticated(
            "A key in the URL is refused, since URLs end up in logs. Send it in the "
            "Authorization header, and rotate this one.",
            code="key_in_url",
        )
