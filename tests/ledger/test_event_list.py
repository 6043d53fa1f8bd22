"""Lists of events by time look at near hours first and must not show another order for it."""

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from ledger import selectors
from stripemeter.lib import clock
from tests.builders.ledger import make_event, store
from tests.builders.tenancy import Caller

#: Before now: within each window, on its edges, beyond all; and ahead of the clock.
AGES = [
    timedelta(minutes=-50), timedelta(0), timedelta(seconds=10), timedelta(minutes=5),
    timedelta(minutes=5, microseconds=1), timedelta(hours=4), timedelta(hours=9),
    timedelta(days=8), timedelta(days=8, seconds=1), timedelta(days=700),
]  # fmt: skip


@pytest.fixture
def now(acme: Caller, globex: Caller) -> datetime:
    """Three events of each age in both tenants, stored in no order."""
    now = clock.now()
    ages = AGES[::2] + AGES[1::2]
    for caller in (acme, globex):
        store(
            caller.tenant,
            *(
                make_event(
                    number,
                    ts=now - age,
                    customer=f"cus_{number}",
                    metric=f"metric_{number % 2}",
                    idempotencyKey=f"{caller.tenant.key}-{place}-{number}",
                )
                for place, age in enumerate(ages)
                for number in range(3)
            ),
            now=now,
        )
    return now


def pages(caller: Caller, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        more = {"cursor": cursor} if cursor else {}
        page = Client().get(
            "/v1/events",
            {"tenantId": caller.tenant.key, **query, **more},
            headers=caller.headers,
        )
        assert page.status_code == 200, page.content
        found += page.json()["events"]
        cursor = page.json()["nextCursor"]
        if cursor is None:
            return found


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
@pytest.mark.parametrize("direction", ["desc", "asc"])
@pytest.mark.parametrize(
    "wanted",
    [{}, {"customerRef": "cus_1"}, {"metric": "metric_0"}],
    ids=["all", "customer", "metric"],
)
def test_pages_together_are_every_event_once_in_order(
    acme: Caller, now: datetime, limit: int, direction: str, wanted: dict[str, str]
) -> None:
    found = pages(acme, limit=limit, sortDir=direction, **wanted)
    per_age = {"customerRef": 1, "metric": 2}.get(next(iter(wanted), ""), 3)
    assert len({event["id"] for event in found}) == len(found) == per_age * len(AGES)
    assert all(event["tenantId"] == "acme" for event in found)
    times = [datetime.fromisoformat(event["timestamp"]) for event in found]
    ordered = sorted(times, reverse=direction == "desc")
    assert times == ordered


@pytest.mark.parametrize("direction", ["desc", "asc"])
def test_bounds_and_offset_hold_in_every_window(
    acme: Caller, now: datetime, direction: str
) -> None:
    wanted = selectors.EventFilter(
        acme.tenant.pk, start=now - timedelta(days=8), end=now - timedelta(seconds=10)
    )
    whole = selectors.list_events(wanted, limit=100, descending=direction == "desc")
    assert len(whole) == 3 * 6
    assert {event.ts for event in whole} >= {wanted.start, wanted.end}
    for offset, after in pairwise(range(0, 18, 5)):
        assert after - offset == 5
        part = selectors.list_events(wanted, limit=5, offset=offset, descending=direction == "desc")
        assert part == whole[offset : offset + 5]


def test_a_page_that_lies_in_the_last_minutes_reads_no_more(acme: Caller, now: datetime) -> None:
    wanted = selectors.EventFilter(acme.tenant.pk)
    with CaptureQueriesContext(
        connection,
    ) as ran:
        selectors.list_events(wanted, limit=5)
    reads = [query["sql"] for query in ran if 'FROM "ledger_event"' in query["sql"]]
    assert len(reads) == 1
    assert '"ts" >=' in reads[0]
