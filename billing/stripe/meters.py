"""Billing Meters, API v1: the default way usage reaches Stripe, and how it is read back."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import stripe

from billing.stripe.answers import Answer, Outcome
from billing.stripe.client import client_for, options_for
from billing.stripe.driver import UsageEvent
from billing.stripe.errors import all_rows, answer_of, reading
from stripemeter.lib.decimals import plain

EVENTS_PATH = "/v1/billing/meter_events"
PAGE_ROWS = 100
PAGES_MAX = 20


class MeterEvents:
    """Driver for ``POST /v1/billing/meter_events``."""

    def push(self, event: UsageEvent) -> Answer:
        """Send one meter event; ``identifier`` makes repeating it harmless for 24 hours."""
        client = client_for(event.mode)
        params: Any = {
            "event_name": event.target,
            "payload": {
                "stripe_customer_id": event.stripe_customer_id,
                "value": plain(event.value),
            },
            "identifier": event.identifier,
            "timestamp": int(event.stamped_at.timestamp()),
        }
        options = options_for(event.account, idempotency_key=event.idempotency_key)
        try:
            # The SDK's objects cost a third of the call and are not looked at.
            found: Any = client.raw_request("post", EVENTS_PATH, **params, **options)
        except stripe.StripeError as error:
            return answer_of(error)
        return _accepted(found, event)


def _accepted(found: Any, event: UsageEvent) -> Answer:
    request_id = str(found.request_id or "")
    fields = found.data
    if not isinstance(fields, dict):
        return Answer(Outcome.UNKNOWN, 200, "no_object", "the answer is no object", request_id)
    if fields.get("identifier") != event.identifier:
        message = "the answer names another identifier"
        return Answer(Outcome.UNKNOWN, 200, "wrong_identifier", message, request_id)
    if fields.get("livemode") is not (event.mode == "live"):
        message = f"the answer's livemode does not fit a {event.mode} push"
        return Answer(Outcome.WRONG_MODE, 200, "wrong_mode", message, request_id)
    return Answer(Outcome.ACCEPTED, 200, request_id=request_id)


def find_meter(
    *, mode: str, account: str, event_name: str, hasty: bool = False
) -> dict[str, Any] | None:
    """The meter of ``event_name``, active ones first; None if the account has none.

    Raises `StripeUnavailable`, `StripeRefused`; ``hasty`` as for `client_for`.
    """
    for status in ("active", "inactive"):
        for meter in _meters(mode, account, status, hasty):
            if meter["event_name"] == event_name:
                return meter
    return None


def _meters(mode: str, account: str, status: str, hasty: bool) -> list[dict[str, Any]]:
    return all_rows(
        client_for(mode, hasty=hasty).v1.billing.meters.list,
        params={"status": status, "limit": PAGE_ROWS},
        options=options_for(account),
        pages_max=PAGES_MAX,
    )


def read_days(
    *, mode: str, account: str, meter_id: str, customer: str, start: date, end: date
) -> dict[date, Decimal]:
    """What Stripe has summed per UTC day of [start, end) for one customer and meter.

    Eventually consistent. Values come as JSON numbers (floats of 15 digits): the shortest
    decimal that names the float is taken. Raises `StripeUnavailable`, `StripeRefused`.
    """
    rows = all_rows(
        client_for(mode).v1.billing.meters.event_summaries.list,
        meter_id,
        params={
            "customer": customer,
            "start_time": _midnight(start),
            "end_time": _midnight(end),
            "value_grouping_window": "day",
            "limit": PAGE_ROWS,
        },
        options=options_for(account),
        pages_max=PAGES_MAX,
    )
    return {
        datetime.fromtimestamp(row["start_time"], UTC).date(): Decimal(str(row["aggregated_value"]))
        for row in rows
    }


def read_total(
    *, mode: str, account: str, meter_id: str, customer: str, start: datetime, end: datetime
) -> Decimal:
    """What Stripe has aggregated over [start, end), widened to whole minutes.

    Raises `StripeUnavailable`, `StripeRefused`.
    """
    client = client_for(mode)
    first = start.replace(second=0, microsecond=0)
    last = end.replace(second=0, microsecond=0)
    if last != end:
        last += timedelta(minutes=1)
    params: Any = {
        "customer": customer,
        "start_time": int(first.timestamp()),
        "end_time": int(last.timestamp()),
    }
    page = reading(
        client.v1.billing.meters.event_summaries.list, meter_id, params, options_for(account)
    )
    rows = [row.to_dict() for row in page.data]
    return Decimal(str(rows[0]["aggregated_value"])) if rows else Decimal(0)


def cancel(*, mode: str, account: str, event_name: str, identifier: str) -> Answer:
    """Cancel one meter event; Stripe takes this within 24 hours of receiving it."""
    client = client_for(mode)
    params: Any = {
        "event_name": event_name,
        "type": "cancel",
        "cancel": {"identifier": identifier},
    }
    options = options_for(account, idempotency_key=f"cancel-{identifier}")
    try:
        client.v1.billing.meter_event_adjustments.create(params, options)
    except stripe.StripeError as error:
        return answer_of(error)
    return Answer(Outcome.ACCEPTED, 200)


def _midnight(day: date) -> int:
    return int(datetime.combine(day, time(), tzinfo=UTC).timestamp())
