"""Facts about one cursor, built by hand: a month with a few acknowledged pushes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from reconciliation.facts import Facts, PushFact
from stripemeter.lib.periods import Period

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
MONTH = Period(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
LONG_AGO = timedelta(days=2)


def push(
    sequence: int, delta: str, *, day: int = 5, age: timedelta = LONG_AGO, **fields: Any
) -> PushFact:
    stamped = datetime(2026, 11, day, 10, 30, tzinfo=UTC)
    made = PushFact(
        id=uuid4(),
        sequence=sequence,
        identifier=f"live-m-c-261101000000-{day:02d}-{sequence}",
        state="acknowledged",
        slice_day=stamped.date(),
        stamped_at=stamped,
        delta=Decimal(delta),
        value=Decimal(delta),
        customer="cus_1",
        created_at=NOW - age,
        settled_at=NOW - age,
    )
    return replace(made, **fields)


def facts(*pushes: PushFact, **fields: Any) -> Facts:
    """Facts in parity: counter, pushes and Stripe say the same; ``fields`` break them."""
    acked = [each for each in pushes if each.state == "acknowledged"]
    stripe: dict[Any, Decimal] = {}
    for each in acked:
        stripe[each.day] = stripe.get(each.day, Decimal(0)) + each.delta
    intended = sum((p.delta for p in pushes if p.state != "rejected"), Decimal(0))
    made = Facts(
        now=NOW,
        period=MONTH,
        ledger=intended,
        counter=intended,
        wanted=intended,
        pushes=pushes,
        customer="cus_1",
        stripe=stripe,
        counter_moved_at=NOW - LONG_AGO,
    )
    return replace(made, **fields)
