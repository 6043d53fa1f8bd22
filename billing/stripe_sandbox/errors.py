"""Stripe's error answers, in the shapes of its v1 and v2 APIs.

A handler raises `Failure`; the server turns it into the answer. `code` is left
out of the body when None, because Stripe leaves it out too (the duplicate
identifier on v1 is known by its message alone).
"""

from __future__ import annotations

from typing import Any


class Failure(Exception):
    """An error answer of Stripe: HTTP status, error object and extra headers."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: str = "invalid_request_error",  # noqa: A002  (Stripe's own word on the wire)
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
        version: int = 1,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.type = type
        self.code = code
        self.param = param
        self.headers = headers or {}
        self.version = version

    def body(self, request_id: str) -> dict[str, Any]:
        """Returns the JSON body: `{"error": {...}}` with only the keys that are set."""
        error: dict[str, Any] = {"message": self.message}
        if self.version == 1:
            error["type"] = self.type
            error["request_log_url"] = f"https://dashboard.stripe.com/test/logs/{request_id}"
            if self.param is not None:
                error["param"] = self.param
        if self.code is not None:
            error["code"] = self.code
            if self.version == 1:
                error["doc_url"] = (
                    f"https://stripe.com/docs/error-codes/{self.code.replace('_', '-')}"
                )
        elif self.version == 2:
            error["code"] = "invalid_fields"
        return {"error": error}


def missing_param(name: str) -> Failure:
    """A required parameter was not sent."""
    return Failure(f"Missing required param: {name}.", code="parameter_missing", param=name)


def unknown_param(name: str) -> Failure:
    """A parameter that the operation does not have."""
    return Failure(f"Received unknown parameter: {name}", code="parameter_unknown", param=name)


def no_such(kind: str, identifier: str, *, param: str = "id", status: int = 404) -> Failure:
    """The object does not exist in this account and mode (`resource_missing`)."""
    return Failure(
        f"No such {kind}: '{identifier}'", status=status, code="resource_missing", param=param
    )


def unauthorized(message: str) -> Failure:
    """No key, a malformed key or a revoked one: HTTP 401."""
    return Failure(message, status=401, headers={"WWW-Authenticate": 'Bearer realm="Stripe"'})


def lock_timeout() -> Failure:
    """Another call holds the object: 429 without a rate-limit reason (DOC rate-limits)."""
    return Failure(
        "This object cannot be accessed right now because another API request or Stripe process "
        "is currently accessing it. If you see this error intermittently, retry the request.",
        status=429,
        code="lock_timeout",
    )


def too_many_concurrent() -> Failure:
    """The same on v2: 409 (SPEC)."""
    return Failure(
        "Too many concurrent requests for this customer and meter.",
        status=409,
        code="too_many_concurrent_requests",
        version=2,
    )


def rate_limited(reason: str | None) -> Failure:
    """The limiter refused: 429 `rate_limit`, with `Stripe-Rate-Limited-Reason` when given."""
    headers = {"Stripe-Rate-Limited-Reason": reason} if reason else {}
    return Failure(
        "Request rate limit exceeded. Learn more about rate limits at "
        "https://stripe.com/docs/rate-limits.",
        status=429,
        code="rate_limit",
        headers=headers,
    )


def server_error() -> Failure:
    """An HTTP 500 of Stripe's: whether the call was applied is unknown to the caller."""
    return Failure("An unknown error occurred", status=500, type="api_error")
