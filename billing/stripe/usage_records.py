"""Legacy usage records, for prices without a meter.

They left Stripe's API with 2025-03-31.basil; Stripe documents raw requests pinned to
the last version that has them as the bridge. ``action=set`` at one timestamp per UTC
day makes each record say the day's total, so repeating one is harmless.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import stripe

from billing.stripe.answers import Answer, Outcome
from billing.stripe.client import client_for, options_for
from billing.stripe.driver import UsageEvent
from billing.stripe.errors import answer_of, reading
from stripemeter.lib.decimals import plain

LEGACY_VERSION = "2025-02-24.acacia"
SUMMARIES_MAX = 100


class UsageRecords:
    """Driver for ``POST /v1/subscription_items/{id}/usage_records``."""

    def push(self, event: UsageEvent) -> Answer:
        """Set the usage of the item at the event's timestamp; whole units only."""
        client = client_for(event.mode)
        try:
            response: Any = client.raw_request(
                "post",
                f"/v1/subscription_items/{event.target}/usage_records",
                quantity=plain(event.value),
                timestamp=int(event.stamped_at.timestamp()),
                action="set",
                stripe_version=LEGACY_VERSION,
                **options_for(event.account, idempotency_key=event.idempotency_key),
            )
            fields = client.deserialize(response, api_mode="V1").to_dict()
        except stripe.StripeError as error:
            return answer_of(error)
        request_id = str(response.request_id or "")
        if fields.get("subscription_item") != event.target:
            message = "the answer names another subscription item"
            return Answer(Outcome.UNKNOWN, 200, "wrong_item", message, request_id)
        if fields.get("livemode") is not (event.mode == "live"):
            message = f"the answer's livemode does not fit a {event.mode} push"
            return Answer(Outcome.WRONG_MODE, 200, "wrong_mode", message, request_id)
        return Answer(Outcome.ACCEPTED, 200, request_id=request_id)


@dataclass(frozen=True, slots=True)
class ItemPeriod:
    """One billing period of an item, [start, end), and its usage; None is open-ended."""

    start: datetime | None
    end: datetime | None
    total: Decimal

    def holds(self, at: datetime) -> bool:
        """Whether ``at`` falls into the period."""
        return (self.start is None or self.start <= at) and (self.end is None or at < self.end)


def read_item_periods(*, mode: str, account: str, item: str) -> list[ItemPeriod]:
    """Usage of the item by billing period, newest first; Stripe sums nothing finer.

    Raises `StripeUnavailable`, `StripeRefused`.
    """
    client = client_for(mode)

    def call() -> list[dict[str, Any]]:
        response: Any = client.raw_request(
            "get",
            f"/v1/subscription_items/{item}/usage_record_summaries",
            limit=SUMMARIES_MAX,
            stripe_version=LEGACY_VERSION,
            **options_for(account),
        )
        rows: list[dict[str, Any]] = client.deserialize(response, api_mode="V1").to_dict()["data"]
        return rows

    return [
        ItemPeriod(
            _instant(row["period"]["start"]),
            _instant(row["period"]["end"]),
            Decimal(str(row["total_usage"])),
        )
        for row in reading(call)
    ]


def _instant(seconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def read_item_total(*, mode: str, account: str, item: str, at: datetime) -> Decimal:
    """Usage of the item's billing period that holds ``at``; 0 if Stripe lists none.

    Raises `StripeUnavailable`, `StripeRefused`.
    """
    for period in read_item_periods(mode=mode, account=account, item=item):
        if period.holds(at):
            return period.total
    return Decimal(0)
