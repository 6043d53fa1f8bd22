"""Meter event streams, API v2: up to 100 events a call, for catching up in bulk.

Validation is asynchronous here, duplicates included, so an accepted batch says less than
the v1 driver does; `billing.stripe.meters` stays the default. A batch without an answer is
sent again event by event over v1, whose duplicate error says which had arrived.
"""

import threading
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import stripe

from billing.stripe.answers import Answer, Outcome
from billing.stripe.client import client_for, options_for, stream_client
from billing.stripe.driver import BULK_EVENTS_MAX as EVENTS_MAX
from billing.stripe.driver import UsageEvent
from billing.stripe.errors import answer_of
from stripemeter.lib.decimals import plain
from stripemeter.lib.instants import parse_instant, rfc3339

#: Sessions last 15 minutes; one is renewed this long before its end.
RENEW_BEFORE = timedelta(minutes=1)
HTTP_UNAUTHORIZED = 401
_SESSION_EXPIRED = "billing_meter_event_session_expired"


class MeterEventStream:
    """Sends batches of events of one account and mode over one renewable session."""

    def __init__(self, *, mode: str, account: str) -> None:
        self._mode, self._account = mode, account
        self._session: tuple[str, datetime] | None = None
        self._lock = threading.Lock()

    def push_batch(self, events: Sequence[UsageEvent], *, now: datetime) -> Answer:
        """Send up to 100 events; the answer holds for all of them."""
        if not 1 <= len(events) <= EVENTS_MAX:
            raise ValueError(f"a batch has 1 to {EVENTS_MAX} events")
        answer = self._send(events, now)
        if answer.code == _SESSION_EXPIRED or answer.http_status == HTTP_UNAUTHORIZED:
            # The token is not good any more, which says nothing about the key.
            with self._lock:
                self._session = None
            answer = self._send(events, now)
        return answer

    def _send(self, events: Sequence[UsageEvent], now: datetime) -> Answer:
        params: Any = {"events": [_wire(event) for event in events]}
        try:
            client = stream_client(self._token(now))
            client.v2.billing.meter_event_stream.create(params, options_for(self._account))
        except stripe.StripeError as error:
            return answer_of(error)
        return Answer(Outcome.ACCEPTED, 200)

    def _token(self, now: datetime) -> str:
        with self._lock:
            if self._session is None or now + RENEW_BEFORE >= self._session[1]:
                found: Any = client_for(self._mode).v2.billing.meter_event_session.create(
                    {}, options_for(self._account)
                )
                fields = found.to_dict()
                ends = fields["expires_at"]
                self._session = (
                    str(fields["authentication_token"]),
                    ends if isinstance(ends, datetime) else parse_instant(ends),
                )
            return self._session[0]


def _wire(event: UsageEvent) -> dict[str, Any]:
    return {
        "event_name": event.target,
        "identifier": event.identifier,
        "timestamp": rfc3339(event.stamped_at),
        "payload": {
            "stripe_customer_id": event.stripe_customer_id,
            "value": plain(event.value),
        },
    }
