"""The rules that the sandbox follows where Stripe's description is silent.

Shapes and types are checked against Stripe's OpenAPI description; what that cannot
state (alignment, windows, duplicates, clamping, rounding) stands here, each rule
with its mark:

- DOC: a page of Stripe's documentation or the prose of its description says so;
- OBS: others reported it from real calls;
- UNVERIFIED: our reading; nobody we know of has shown it.

`tests/sandbox/behaviours_*.py` have one case per rule. It runs them against the
sandbox and, when `STRIPE_TEST_SECRET_KEY` is given, those that are `live` against
that real test account. A live run is what turns UNVERIFIED into OBS.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Mark(StrEnum):
    """How a rule is known."""

    DOC = "DOC"
    OBS = "OBS"
    UNVERIFIED = "unverified"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: a stable id, what holds, and how it is known."""

    id: str
    text: str
    mark: Mark
    source: str
    live: bool = True
    """False when a real account cannot be asked: it needs another clock or a fault."""


DOC, OBS, UNVERIFIED = Mark.DOC, Mark.OBS, Mark.UNVERIFIED

RULES: tuple[Rule, ...] = (
    # identifiers and idempotency keys
    Rule(
        "identifier.duplicate",
        "A known identifier under a new Idempotency-Key: 400 invalid_request_error, no code, "
        '"An event already exists with identifier X.", Stripe-Should-Retry: false; counts once.',
        OBS,
        "several projects' error handling, 2026",
    ),
    Rule(
        "identifier.same_key",
        "The same identifier and Idempotency-Key replays the stored 200.",
        DOC,
        "idempotent_requests",
    ),
    Rule(
        "identifier.forgotten",
        "An identifier is forgotten 24 hours after it was received.",
        DOC,
        'meter event: "at least 24 hours"; that it ends right then is unverified',
        live=False,
    ),
    Rule(
        "identifier.account_wide",
        "An identifier is unique over all meters of an account and mode.",
        UNVERIFIED,
        "scope is not documented",
    ),
    Rule(
        "identifier.length",
        "An identifier has at most 100 characters.",
        DOC,
        "description of POST /v1/billing/meter_events",
    ),
    Rule(
        "key.other_parameters",
        "A used Idempotency-Key with other parameters: 400 idempotency_error.",
        DOC,
        "idempotent_requests",
    ),
    Rule(
        "key.stored_500",
        "A 500 is stored under its Idempotency-Key and replayed.",
        DOC,
        "idempotent_requests",
        live=False,
    ),
    Rule(
        "key.refusal_not_stored",
        "A validation error leaves the Idempotency-Key usable.",
        DOC,
        "error-low-level",
    ),
    # values
    Rule(
        "value.decimal", "Decimal values are taken and added exactly.", DOC, "recording-usage-api"
    ),
    Rule(
        "value.negative",
        "Negative values are taken and lower the sum.",
        DOC,
        "meters/configure",
    ),
    Rule(
        "value.digits",
        "More than 15 significant digits: 400.",
        DOC,
        "changelog 2026-04-22.dahlia; whether trailing zeros count is unverified",
    ),
    Rule(
        "value.exponent",
        "Exponent notation (1e3) is no value.",
        UNVERIFIED,
        "only plain notation is documented",
    ),
    # time
    Rule(
        "timestamp.past",
        "More than 35 days back: 400 with the earliest moment allowed in the message.",
        OBS,
        "error text in a public pull request, 2025-10",
    ),
    Rule(
        "timestamp.future",
        "More than 5 minutes ahead: 400.",
        DOC,
        "meter event; that v1 tells it at once is unverified",
    ),
    Rule(
        "timestamp.default",
        "Without a timestamp an event gets the moment of its arrival.",
        DOC,
        "description of POST /v1/billing/meter_events",
    ),
    # names
    Rule(
        "meter.unknown",
        "No active meter for the event name: 400 at once on v1, without a code.",
        OBS,
        'message "No active meter found for event name"; that the code is absent is unverified',
    ),
    Rule(
        "meter.archived",
        "A deactivated meter takes no events; a reactivated one does.",
        DOC,
        "archived_meter",
    ),
    Rule(
        "meter.one_name",
        "One event name belongs to one active meter.",
        DOC,
        "meters/configure; the wording of the refusal is unverified",
    ),
    Rule(
        "customer.unknown",
        "An unknown customer: 400 at once on v1 (setting `unknown_customer`).",
        UNVERIFIED,
        "the asynchronous code meter_event_customer_not_found exists; v1 is not documented",
    ),
    # sums
    Rule("formula.sum", "sum adds all values.", DOC, "meters"),
    Rule("formula.count", "count counts events and ignores values.", DOC, "meters"),
    Rule(
        "formula.last",
        "last takes the newest timestamp, whatever arrives later.",
        DOC,
        "meters; of equal timestamps the last received is unverified",
    ),
    Rule(
        "window.overwrite",
        "With event_time_window the last received event of each UTC window counts.",
        DOC,
        "meters/configure",
    ),
    Rule(
        "summary.half_open",
        "start_time is inclusive, end_time exclusive.",
        DOC,
        "description of event_summaries",
    ),
    Rule(
        "summary.alignment",
        "Ranges must be on minutes, on hours when grouped by hour, on UTC days by day.",
        DOC,
        "description of event_summaries; the wording is unverified",
    ),
    Rule(
        "summary.empty_range",
        "A range without events gives one summary of 0.",
        UNVERIFIED,
        "not documented",
    ),
    Rule(
        "summary.empty_windows",
        "Grouped summaries leave out windows without events, newest first.",
        UNVERIFIED,
        "not documented",
    ),
    Rule(
        "summary.unknown_customer",
        "Summaries of an unknown customer are refused.",
        UNVERIFIED,
        "not documented",
    ),
    Rule(
        "cancel.recent",
        "A cancelled event leaves the sum.",
        DOC,
        "meter_event_adjustments",
    ),
    Rule(
        "cancel.unknown",
        "Cancelling an unknown identifier: 400.",
        UNVERIFIED,
        "no error is documented",
    ),
    # requests
    Rule(
        "parameter.unknown",
        "An unknown top-level parameter: 400 parameter_unknown.",
        DOC,
        "additionalProperties: false in every request schema",
    ),
    Rule(
        "concurrency.pair",
        "A second call in flight for the same customer and meter: 429 lock_timeout.",
        UNVERIFIED,
        "rate-limits names the limit; whether 429 or 409 is not documented for v1",
        live=False,
    ),
    # invoices
    Rule(
        "invoice.flexible_first",
        "Flexible mode puts no metered line on the first invoice; classic a zero line.",
        DOC,
        "manage-billing",
    ),
    Rule(
        "invoice.grace",
        "A draft takes usage of its period until it finalises, by default after 1 hour.",
        DOC,
        "configure-grace-period",
        live=False,
    ),
    Rule(
        "invoice.late",
        "Usage after finalisation is on no invoice and stays in the sums.",
        DOC,
        "configure-grace-period",
        live=False,
    ),
    Rule(
        "invoice.negative",
        "A negative period total bills quantity 0.",
        DOC,
        "meters/configure; that nothing is carried over is unverified",
        live=False,
    ),
    Rule(
        "invoice.zero_flat",
        "A quantity of 0 bills the first tier's flat amount.",
        DOC,
        "tiered-pricing",
    ),
    Rule(
        "invoice.transform",
        "transform_quantity divides, then rounds: 150 by 60 up bills 3.",
        DOC,
        "manage-prices",
    ),
    Rule(
        "invoice.rounding",
        "A line is rounded once, half up: 30 x 0.05 bills 2.",
        DOC,
        "manage-prices; exact ties and negative amounts are unverified",
    ),
    Rule(
        "invoice.one_line",
        "A graduated price makes one line (setting `graduated_lines`).",
        UNVERIFIED,
        "one line per tier is as likely",
    ),
    Rule(
        "anchor.short_months",
        "An anchor on day 31 is cut to short months and comes back.",
        DOC,
        "billing-cycle",
    ),
)


def rule(identifier: str) -> Rule:
    """Returns a rule by its id; KeyError when there is none."""
    return {rule.id: rule for rule in RULES}[identifier]
