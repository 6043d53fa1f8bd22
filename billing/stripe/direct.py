"""One usage value to Stripe, and one total back, without any bookkeeping of ours.

The surface of the public predecessor's driver, kept for callers who meter by hand. What
goes through here is unknown to cursors and reconciliation: it shows as a foreign writer.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from billing import ids, slicing
from billing.stripe.answers import Outcome
from billing.stripe.driver import UsageEvent, driver_for
from billing.stripe.meters import find_meter, read_total
from billing.stripe.usage_records import read_item_total
from stripemeter.lib.decimals import decimal_of

IDENTIFIER_CHARS_MAX = 100


class UsageNotRecorded(Exception):
    """Stripe did not take the value, or its outcome is unknown (``outcome`` says which)."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(f"{outcome}: {message}")
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Recorded:
    """A value that Stripe has; ``duplicate`` if it had it before."""

    identifier: str
    value: Decimal
    duplicate: bool
    request_id: str


def record_usage(
    *,
    mode: str,
    quantity: str | int | Decimal,
    timestamp: datetime,
    idempotency_key: str,
    stripe_account: str = "default",
    meter_event_name: str | None = None,
    stripe_customer_id: str | None = None,
    subscription_item_id: str | None = None,
) -> Recorded:
    """Send one value: a meter event, or a legacy usage record if only an item is named.

    ``mode`` is live or test; ``quantity`` a decimal of at most 15 digits (increments for
    meters, the total at ``timestamp`` for items). Repeating a key within 24 hours has no
    effect. Raises `UsageNotRecorded`, `KeyMissing`, `KeyOfWrongMode`, ValueError.
    """
    value = decimal_of(quantity)
    if slicing.fit(value) != value:
        raise ValueError("Stripe takes at most 15 digits")
    if not (idempotency_key.isascii() and 1 <= len(idempotency_key) <= IDENTIFIER_CHARS_MAX):
        raise ValueError("idempotency_key has 1 to 100 ASCII characters")
    if not ids.ACCOUNT.fullmatch(stripe_account):
        raise ValueError("stripe_account is no account id")
    semantics, target = _target(meter_event_name, stripe_customer_id, subscription_item_id)
    event = UsageEvent(
        mode=mode,
        account=stripe_account,
        target=target,
        stripe_customer_id=stripe_customer_id or "",
        value=value,
        stamped_at=timestamp,
        identifier=idempotency_key,
        idempotency_key=idempotency_key,
    )
    answer = driver_for(semantics).push(event)
    if answer.outcome not in {Outcome.ACCEPTED, Outcome.DUPLICATE}:
        raise UsageNotRecorded(answer.outcome, answer.message or answer.code)
    duplicate = answer.outcome is Outcome.DUPLICATE
    return Recorded(idempotency_key, value, duplicate, answer.request_id)


def _target(
    meter_event_name: str | None, customer: str | None, item: str | None
) -> tuple[str, str]:
    if meter_event_name is not None:
        if item is not None or not ids.CUSTOMER.fullmatch(customer or ""):
            raise ValueError("a meter event needs meter_event_name and stripe_customer_id")
        return "increment", meter_event_name
    if not ids.SUBSCRIPTION_ITEM.fullmatch(item or ""):
        raise ValueError("name a meter (meter_event_name) or a subscription_item_id")
    return "usage_record", str(item)


def get_usage_summary(
    *,
    mode: str,
    period_start: datetime,
    period_end: datetime,
    stripe_account: str = "default",
    meter_event_name: str | None = None,
    stripe_customer_id: str | None = None,
    subscription_item_id: str | None = None,
) -> dict[str, Any]:
    """What Stripe has summed over [period_start, period_end), widened to whole minutes.

    ``{"total": Decimal, "eventuallyConsistent": bool}``. For a legacy item it is the total
    of the item's billing period that holds ``period_start``. Raises `StripeUnavailable`,
    `StripeRefused`, LookupError for an unknown meter, ValueError.
    """
    semantics, target = _target(meter_event_name, stripe_customer_id, subscription_item_id)
    if semantics == "usage_record":
        total = read_item_total(mode=mode, account=stripe_account, item=target, at=period_start)
        return {"total": total, "eventuallyConsistent": False}
    meter = find_meter(mode=mode, account=stripe_account, event_name=target)
    if meter is None:
        raise LookupError(f"Stripe has no meter for {target}")
    total = read_total(
        mode=mode,
        account=stripe_account,
        meter_id=meter["id"],
        customer=str(stripe_customer_id),
        start=period_start,
        end=period_end,
    )
    return {"total": total, "eventuallyConsistent": True}
