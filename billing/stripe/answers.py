"""What an answer of Stripe means for the push that asked. Pure: no SDK, no I/O.

The table is docs.stripe.com/error-low-level and /api/errors as observed: the duplicate
identifier of v1 meter events comes as HTTP 400 without a code, so its message decides.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

MESSAGE_CHARS_MAX = 500
#: Codes and messages that mean: nothing sent to this meter can succeed.
_DEAD_METER_CODES = frozenset({"no_meter", "archived_meter"})
_DEAD_METER_MESSAGE = "no active meter found"
_DUPLICATE_MESSAGE = "event already exists with identifier"
_DUPLICATE_CODE = "duplicate_meter_event"
RETRY_AFTER_SECONDS_MAX = 3_600.0


class Outcome(StrEnum):
    """Classes of answers; each has one reaction in `billing.services.outcomes`."""

    ACCEPTED = "accepted"
    #: The identifier is at Stripe already.
    DUPLICATE = "duplicate"
    #: Refused before anything was executed: the same request may be sent again.
    BUSY = "busy"
    #: It may have been executed: only the same identifier may be sent again.
    UNKNOWN = "unknown"
    #: Wrong data: this push will never be taken.
    REFUSED = "refused"
    #: The meter takes nothing: missing or archived.
    DEAD_METER = "dead_meter"
    #: The key was used for another request: a person must look.
    MISMATCH = "mismatch"
    #: Key or permission: the whole account stops.
    HALTED = "halted"
    #: The object belongs to the other mode: the whole account stops.
    WRONG_MODE = "wrong_mode"


@dataclass(frozen=True, slots=True)
class Answer:
    """One call's result as the push services see it."""

    outcome: Outcome
    http_status: int | None = None
    code: str = ""
    message: str = ""
    request_id: str = ""
    #: Seconds Stripe asks to wait.
    retry_after: float | None = None


def outcome_of_error(
    *, http_status: int | None, code: str, kind: str, message: str, should_retry: bool | None
) -> Outcome:
    """The class of an error answer.

    ``http_status`` is None when no answer came; ``kind`` is Stripe's error type.
    """
    text = message.lower()
    if http_status is None or http_status >= 500 or http_status < 400:
        return Outcome.UNKNOWN
    if code == _DUPLICATE_CODE or (http_status == 400 and _DUPLICATE_MESSAGE in text):
        return Outcome.DUPLICATE
    if http_status in {401, 403}:
        return Outcome.HALTED
    if http_status == 429:
        return Outcome.BUSY
    if http_status == 409:
        # Another request with this key is under way and may succeed.
        return Outcome.UNKNOWN
    if kind == "idempotency_error":
        return Outcome.MISMATCH
    if code in _DEAD_METER_CODES or _DEAD_METER_MESSAGE in text:
        return Outcome.DEAD_METER
    if should_retry:
        return Outcome.UNKNOWN
    return Outcome.REFUSED


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Seconds of a ``Retry-After`` header given as a number; None for anything else."""
    raw = {name.lower(): value for name, value in headers.items()}.get("retry-after", "")
    if not raw.isascii() or not raw.isdigit() or len(raw) > 6:
        return None
    return min(float(raw), RETRY_AFTER_SECONDS_MAX)


def should_retry_of(headers: Mapping[str, str]) -> bool | None:
    """The verdict of ``Stripe-Should-Retry``, if it was given."""
    raw = {name.lower(): value for name, value in headers.items()}.get("stripe-should-retry")
    return {"true": True, "false": False}.get(raw or "")
