"""The one interface of usage drivers, and which one a push takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Protocol

from billing.stripe.answers import Answer


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """One value on its way to Stripe, with everything a driver needs."""

    mode: str
    account: str
    #: A meter's event name, or a subscription item for legacy usage records.
    target: str
    stripe_customer_id: str
    value: Decimal
    stamped_at: datetime
    identifier: str
    #: The HTTP Idempotency-Key: the identifier, or a later edition after a stored 500.
    idempotency_key: str


class BulkDriver(Protocol):
    """Sends many values in one call; the answer holds for all of them."""

    def push_batch(self, events: Sequence[UsageEvent], *, now: datetime) -> Answer:
        """Send ``events``. Raises `KeyMissing` or `KeyOfWrongMode` before anything is sent."""
        ...


#: Most events of one call in bulk (docs.stripe.com/api/v2/billing/meter-event-stream).
BULK_EVENTS_MAX = 100


class UsageDriver(Protocol):
    """Sends one value and says what became of it; never raises for Stripe's answers."""

    def push(self, event: UsageEvent) -> Answer:
        """Send ``event``. Raises `KeyMissing` or `KeyOfWrongMode` before anything is sent."""
        ...


@lru_cache(maxsize=16)
def bulk_driver_for(mode: str, account: str, api: str) -> BulkDriver:
    """The stream of one account and mode at the API ``api``; it keeps its session."""
    from billing.stripe.stream import MeterEventStream

    return MeterEventStream(mode=mode, account=account)


def driver_for(semantics: str) -> UsageDriver:
    """The driver that pushes of ``semantics`` take."""
    # Imported here so that the interface does not depend on its implementations.
    from billing.stripe.meters import MeterEvents
    from billing.stripe.usage_records import UsageRecords

    return UsageRecords() if semantics == "usage_record" else MeterEvents()
