"""Takes over from Stripe what decides our periods: the calendars of subscriptions."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from billing.models import Mode, PriceMapping
from billing.services.webhook_effects import adopt_subscription
from billing.stripe import reading


@dataclass(frozen=True, slots=True)
class Synced:
    """One subscription that was looked at, of how many, and what it led to."""

    number: int
    total: int
    subscription_id: str
    done: str


def sync_subscriptions(*, now: datetime) -> Iterator[Synced]:
    """Adopt every live subscription of the accounts that mappings name, one at a time.

    Each is a transaction of its own. Raises `StripeUnavailable`, `StripeRefused`,
    `KeyMissing`; what was adopted before stays.
    """
    own = reading.own_account(mode=Mode.LIVE)
    named = set(PriceMapping.objects.values_list("stripe_account", flat=True))
    for account in sorted({"default" if each == own else each for each in named}):
        names = ("default", own) if account == "default" else (account,)
        found = reading.subscriptions(mode=Mode.LIVE, account=account)
        for number, subscription in enumerate(found, 1):
            with transaction.atomic():
                done = adopt_subscription(subscription, accounts=names, now=now)
            text = "; ".join(sorted(done)) or "no item of a mapped price"
            yield Synced(number, len(found), str(subscription["id"]), text)
