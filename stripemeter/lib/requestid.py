"""The id that ties one request to its log lines, its answer and its background work."""

import re
from contextvars import ContextVar

import uuid_utils

_ACCEPTABLE = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)

_current: ContextVar[str] = ContextVar("request_id", default="")


def begin(given: str | None) -> str:
    """Start a request: honour ``given`` (X-Request-Id) if it is safe to log, else make one."""
    request_id = (
        given if given and _ACCEPTABLE.fullmatch(given) else f"req_{uuid_utils.uuid7().hex}"
    )
    _current.set(request_id)
    return request_id


def end() -> None:
    """Forget the id: what is logged from now on belongs to no request."""
    _current.set("")


def current() -> str:
    """The id of the request or task being worked on, or an empty string."""
    return _current.get()
