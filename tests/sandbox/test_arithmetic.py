"""Periods, prices and sums against other, simpler ways to compute them."""

import asyncio
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest
from dateutil.relativedelta import relativedelta
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.stripe_sandbox.app import Application
from billing.stripe_sandbox.engine import Sandbox, World
from billing.stripe_sandbox.metering import usage_between
from billing.stripe_sandbox.parameters import parse_form
from billing.stripe_sandbox.periods import boundary, period_at
from billing.stripe_sandbox.pricing import charges, merged

DAY = 86_400


@pytest.mark.parametrize("day", range(1, 32))
def test_month_boundaries_match_calendar_arithmetic_for_48_months(day):
    anchor = datetime(2027, 1, day, 13, 7, 5, tzinfo=UTC)
    for number in range(-12, 48):
        expected = int((anchor + relativedelta(months=number)).timestamp())
        assert boundary(int(anchor.timestamp()), "month", 1, number) == expected


STEPS = {"day": "days", "week": "weeks", "month": "months", "year": "years"}


@given(
    anchored=st.integers(1_577_836_800, 1_893_456_000),
    now=st.integers(1_546_300_800, 1_956_528_000),
    interval=st.sampled_from(sorted(STEPS)),
    count=st.integers(1, 6),
)
def test_every_moment_lies_in_exactly_one_period_that_starts_at_a_boundary(
    anchored, now, interval, count
):
    start, end = period_at(anchored, interval, count, now)
    assert start <= now < end
    assert period_at(anchored, interval, count, end)[0] == end
    assert period_at(anchored, interval, count, start - 1)[1] == start
    step = relativedelta(**{STEPS[interval]: count})
    whole = datetime.fromtimestamp(anchored, UTC)
    number = round((start - anchored) / ((end - start) or 1))
    # February counts for a whole month, so the estimate may be a tenth too high.
    slack = 2 + abs(number) // 8
    nearby = {
        int((whole + step * k).timestamp()) for k in range(number - slack, number + slack + 1)
    }
    assert start in nearby


def price_of(tiers: list[dict[str, Any]], mode: str) -> dict[str, Any]:
    option = {"unit_amount_decimal": None, "tiers": tiers}
    return {
        "billing_scheme": "tiered",
        "tiers": tiers,
        "tiers_mode": mode,
        "transform_quantity": None,
        "currency": "usd",
        "currency_options": {"usd": option},
    }


amounts = st.decimals(0, 1000, places=4, allow_nan=False)


@st.composite
def tier_lists(draw: Any) -> list[dict[str, Any]]:
    bounds = sorted(draw(st.sets(st.integers(1, 40), max_size=4)))
    return [
        {
            "up_to": bound,
            "unit_amount_decimal": str(draw(amounts)),
            "flat_amount_decimal": str(draw(st.integers(0, 500))),
        }
        for bound in [*bounds, None]
    ]


@given(tiers=tier_lists(), quantity=st.integers(0, 60))
def test_tiers_cost_the_same_as_counting_unit_by_unit(tiers, quantity):
    def tier_of(unit: int) -> int:
        return next(i for i, t in enumerate(tiers) if t["up_to"] is None or unit <= t["up_to"])

    entered = {0} | {tier_of(unit) for unit in range(1, quantity + 1)}
    graduated = sum(Decimal(tiers[i]["flat_amount_decimal"]) for i in entered)
    for unit in range(1, quantity + 1):
        graduated += Decimal(tiers[tier_of(unit)]["unit_amount_decimal"])
    reached = tiers[tier_of(quantity)]
    volume = quantity * Decimal(reached["unit_amount_decimal"])
    volume += Decimal(reached["flat_amount_decimal"])
    for mode, expected in (("graduated", graduated), ("volume", volume)):
        found = merged(charges(price_of(tiers, mode), "usd", Decimal(quantity)))
        assert (found.amount, found.quantity) == (expected, quantity)


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.text("abcxyz_", min_size=1, max_size=5),
        st.one_of(
            st.text(max_size=8),
            st.lists(st.text(max_size=4), min_size=1, max_size=3),
            st.dictionaries(
                st.text("abc", min_size=1, max_size=3), st.text(max_size=5), min_size=1
            ),
        ),
        max_size=4,
    )
)
def test_bracketed_forms_come_back_as_they_were(params):
    pairs: list[tuple[str, str]] = []
    for name, value in params.items():
        if isinstance(value, dict):
            pairs += [(f"{name}[{key}]", part) for key, part in value.items()]
        elif isinstance(value, list):
            pairs += [(f"{name}[{index}]", part) for index, part in enumerate(value)]
        else:
            pairs.append((name, value))
    assert parse_form(urlencode(pairs)) == params


# --- sums against a dictionary -----------------------------------------------------------

sends = st.lists(
    st.tuples(
        st.sampled_from(["one", "two"]),
        st.decimals(-1000, 1000, places=3, allow_nan=False),
        st.integers(0, 12).map(str),
        st.integers(0, 34),
        st.sampled_from([0, 60, DAY // 2, DAY]),
    ),
    max_size=25,
)


class Direct:
    """Calls the application without a server between."""

    def __init__(self) -> None:
        self.sandbox = Sandbox()
        self.application = Application(self.sandbox)

    def post(self, path: str, **params: Any) -> tuple[int, bytes]:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"body": urlencode(params).encode()}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "headers": [(b"authorization", b"Bearer sk_test_direct")],
        }
        asyncio.run(self.application(scope, receive, send))
        return sent[0]["status"], sent[1]["body"]


@settings(max_examples=40)
@given(sends)
def test_what_counts_is_each_identifier_once_a_day_at_its_timestamp(sends):
    direct = Direct()
    world = World("acct_1SandboxDefault0", livemode=False)
    start = datetime(2027, 3, 1, tzinfo=UTC)
    direct.sandbox.clock.set(start.timestamp())
    direct.sandbox.clock.freeze(True)
    fields = {"display_name": "m", "event_name": "m", "default_aggregation[formula]": "sum"}
    direct.post("/v1/billing/meters", **fields)
    for _ in range(2):
        direct.post("/v1/customers")
    customers = [doc["id"] for doc in direct.sandbox.store.all(world.name, "customer")]
    expected: dict[tuple[str, int], Decimal] = defaultdict(Decimal)
    received: dict[str, float] = {}
    for who, value, identifier, days_back, pause in sends:
        direct.sandbox.clock.advance(pause)
        now = direct.sandbox.clock.now()
        moment = int(now) - days_back * DAY
        customer = customers[0 if who == "one" else 1]
        status, _ = direct.post(
            "/v1/billing/meter_events",
            **{
                "event_name": "m",
                "payload[stripe_customer_id]": customer,
                "payload[value]": format(value, "f"),
                "identifier": identifier,
                "timestamp": moment,
            },
        )
        known = identifier in received and received[identifier] > now - DAY
        assert status == (400 if known else 200)
        if not known:
            received[identifier] = now
            expected[customer, moment // DAY] += value
    meter = direct.sandbox.store.all(world.name, "meter")[0]
    for customer in customers:
        for back in range(-15, 60):
            day = int((start - timedelta(days=back)).timestamp())
            found = usage_between(direct.sandbox, world, meter, customer, day, day + DAY)
            assert found == expected[customer, day // DAY]
