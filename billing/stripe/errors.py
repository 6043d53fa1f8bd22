"""Turns what the SDK raises into answers and into our own exceptions."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import stripe

from billing.stripe.answers import (
    MESSAGE_CHARS_MAX,
    Answer,
    outcome_of_error,
    retry_after_of,
    should_retry_of,
)
from stripemeter.lib.logs import redact

_Result = TypeVar("_Result")


class StripeUnavailable(Exception):
    """A read could not be done now: network, limit or an error of Stripe's."""


class StripeRefused(Exception):
    """A read was refused for good: unknown object, key or permission."""

    def __init__(self, message: str, *, http_status: int | None, code: str) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.code = code


def answer_of(error: stripe.StripeError) -> Answer:
    """The answer that ``error`` stands for."""
    headers = dict(error.headers or {})
    detail: Any = error.error
    # Only InvalidRequestError and CardError fill `error.code`; the object always does.
    code = str(getattr(detail, "code", None) or error.code or "")
    kind = str(getattr(detail, "type", None) or "")
    message = redact(str(getattr(detail, "message", None) or error.user_message or error))
    return Answer(
        outcome=outcome_of_error(
            http_status=error.http_status,
            code=code,
            kind=kind,
            message=message,
            should_retry=should_retry_of(headers),
        ),
        http_status=error.http_status,
        code=code or kind or type(error).__name__,
        message=message[:MESSAGE_CHARS_MAX],
        request_id=str(error.request_id or ""),
        retry_after=retry_after_of(headers),
    )


def reading(call: Callable[..., _Result], *arguments: Any, **named: Any) -> _Result:
    """The result of a read. Raises `StripeUnavailable` or `StripeRefused`."""
    try:
        return call(*arguments, **named)
    except stripe.StripeError as error:
        answer = answer_of(error)
        status = answer.http_status
        if status is None or status >= 500 or status < 400 or status in {409, 429}:
            raise StripeUnavailable(answer.message) from error
        raise StripeRefused(answer.message, http_status=status, code=answer.code) from error


def all_rows(
    listing: Callable[..., Any], *leading: Any, params: dict[str, Any], options: Any, pages_max: int
) -> list[dict[str, Any]]:
    """Every row of a cursor-paged list of at most ``pages_max`` pages.

    Raises as `reading` does, and `StripeRefused` for a longer list: a part of it would be
    taken for the whole.
    """
    found: list[dict[str, Any]] = []
    for number, rows in enumerate(pages(listing, *leading, params=params, options=options), 1):
        if number > pages_max:
            text = f"the list has more than {pages_max} pages"
            raise StripeRefused(text, http_status=None, code="list_too_long")
        found += rows
    return found


def pages(
    listing: Callable[..., Any], *leading: Any, params: dict[str, Any], options: Any
) -> Iterator[list[dict[str, Any]]]:
    """A cursor-paged list, page by page, however long. Raises as `reading` does."""
    while True:
        page = reading(listing, *leading, params, options)
        rows = [row.to_dict() for row in page.data]
        yield rows
        if not page.has_more or not rows:
            return
        params = {**params, "starting_after": rows[-1]["id"]}
