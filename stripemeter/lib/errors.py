"""Domain errors that callers see, as RFC 9457 problem details.

A service raises one of these; the edge renders it. ``code`` is stable and documented,
``detail`` is for people and says what to do.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong in a request: where (``field`` and, in a list, ``index``) and why."""

    code: str
    detail: str
    field: str = ""
    index: int | None = None

    def as_wire(self) -> dict[str, Any]:
        """The member of ``errors[]``; ``error`` repeats the text for older callers."""
        wire: dict[str, Any] = {"code": self.code, "detail": self.detail, "error": self.detail}
        if self.field:
            wire["field"] = self.field
        if self.index is not None:
            wire["index"] = self.index
        return wire


@dataclass(eq=False)
class ProblemError(Exception):
    """A refusal with a stable code. Subclasses fix status and default code."""

    detail: str
    code: str = "problem"
    status: int = 400
    title: str = "Request refused"
    errors: list[FieldError] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


@dataclass(eq=False)
class InvalidRequest(ProblemError):
    """400: the request is malformed; ``errors`` name the fields."""

    code: str = "invalid_request"
    title: str = "Invalid request"


@dataclass(eq=False)
class Unauthenticated(ProblemError):
    """401: no credential, or not a valid one."""

    code: str = "unauthenticated"
    status: int = 401
    title: str = "Not authenticated"

    def __post_init__(self) -> None:
        self.headers.setdefault("WWW-Authenticate", 'Bearer realm="stripemeter"')


@dataclass(eq=False)
class Forbidden(ProblemError):
    """403: authenticated, but not allowed."""

    code: str = "forbidden"
    status: int = 403
    title: str = "Not allowed"


@dataclass(eq=False)
class NotFound(ProblemError):
    """404: no such object in this tenant. Same answer for foreign and for unknown ids."""

    detail: str = "Not found"
    code: str = "not_found"
    status: int = 404
    title: str = "Not found"


@dataclass(eq=False)
class Conflict(ProblemError):
    """409: the state of the object does not allow it; ``detail`` says what would."""

    code: str = "conflict"
    status: int = 409
    title: str = "Conflict"


@dataclass(eq=False)
class PayloadTooLarge(ProblemError):
    """413: over a documented size limit."""

    code: str = "payload_too_large"
    status: int = 413
    title: str = "Payload too large"


@dataclass(eq=False)
class UnsupportedMediaType(ProblemError):
    """415: the content type or encoding is not one the route reads."""

    code: str = "unsupported_media_type"
    status: int = 415
    title: str = "Unsupported media type"


@dataclass(eq=False)
class TooManyRequests(ProblemError):
    """429: a rate limit; ``Retry-After`` says when to come back."""

    code: str = "rate_limited"
    status: int = 429
    title: str = "Too many requests"


@dataclass(eq=False)
class Unavailable(ProblemError):
    """503: a dependency is down or the outcome is unknown; retry with the same keys."""

    code: str = "unavailable"
    status: int = 503
    title: str = "Temporarily unavailable"

    def __post_init__(self) -> None:
        self.headers.setdefault("Retry-After", "1")


def invalid(
    name: str, detail: str, *, code: str = "invalid", index: int | None = None
) -> InvalidRequest:
    """`InvalidRequest` about one field."""
    return InvalidRequest(
        detail=f"{name}: {detail}",
        errors=[FieldError(code=code, detail=detail, field=name, index=index)],
    )
