"""The clients against the real server: what they send is taken, what it says is understood."""

import asyncio
import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from ledger.models import Event
from stripemeter import (
    AsyncStripeMeterClient,
    DeliveryFailed,
    EventRejected,
    StripeMeterClient,
)
from tests.builders.tenancy import make_caller
from tests.support.processes import HttpProcess


@pytest.fixture
def key(transactional_db: None) -> str:
    make_caller("globex")
    return make_caller("acme").plaintext


def test_every_verdict_of_the_server_is_understood(web: HttpProcess, key: str) -> None:
    reported = []
    with StripeMeterClient(
        web.url, "acme", "c1", key, on_error=lambda error, events: reported.append(error)
    ) as client:
        first = client.track("m", quantity=Decimal("123456789.123456"), idempotency_key="k")
        again = client.track("m", quantity=1, idempotency_key="k")
        assert (first.accepted, again.conflicts) == (1, 1)
        assert first.request_id

        far = datetime.now(UTC) + timedelta(hours=2)
        mixed = client.track_batch(
            [
                {"metric": "m"},
                {"metric": "m", "quantity": "0.1234567"},
                {"metric": "m", "ts": far},
                {"metric": "not a metric!"},
                {"metric": "m", "meta": {"text": "x" * 5000}},
                {"metric": "m", "quantity": 2},
            ]
        )
        assert [row.status for row in mixed.results] == [
            "accepted", "error", "error", "error", "error", "accepted",
        ]  # fmt: skip
        assert all(row.error for row in mixed.errors)
        with pytest.raises(EventRejected):
            client.track("m", ts=far)
    assert len(reported) == 6

    quantities = Event.objects.order_by("quantity").values_list("quantity", flat=True)
    assert list(quantities) == [1, 2, Decimal("123456789.123456")]
    with (
        StripeMeterClient(web.url, "acme", "c1", "sm_test_wrong.key") as stranger,
        pytest.raises(DeliveryFailed) as refused,
    ):
        stranger.track("m")
    with (
        StripeMeterClient(web.url, "globex", "c1", key) as mismatched,
        pytest.raises(DeliveryFailed) as foreign,
    ):
        mismatched.track("m")
    assert (refused.value.status_code, foreign.value.status_code) == (401, 403)
    assert Event.objects.count() == 3


def test_usage_is_read_exactly_as_it_was_sent(
    web: HttpProcess, key: str, node_package: Path
) -> None:
    now = datetime.now(UTC)

    async def scenario():
        async with AsyncStripeMeterClient(web.url, "acme", "c1", key) as client:
            for quantity in ("0.1", "0.2", "1000000.000001"):
                await client.buffer("m", quantity=quantity, ts=now)
            sent = await client.flush()
            usage = await client.get_usage()
            by_period = await client.get_history(
                "m", period_start=now - timedelta(days=1), period_end=now, step="day"
            )
            by_series = await client.get_history("m", since="-P1D", interval="hour")
            projection = await client.get_projection()
            assert [line.quantity for line in projection.line_items] in ([], [usage["m"]])
            return sent.accepted, usage["m"], by_period.total, by_series.total

    exact = Decimal("1000000.300001")
    assert asyncio.run(scenario()) == (3, exact, exact, exact)

    code = """
import { createClient } from '@stripemeter/sdk-node';
const [, apiUrl] = process.argv;
const options = { apiUrl, tenantId: 'acme', customerId: 'c1', apiKey: process.env.KEY };
const client = createClient({ ...options, decimals: 'string' });
await client.track({ metric: 'm', quantity: '0.000009' });
const refused = await client.trackBatch([{ metric: 'm' }, { metric: 'not a metric!' }]);
const usage = await client.getUsage();
const history = await client.getHistory({ metric: 'm', since: '-P1D' });
console.log(JSON.stringify([
  refused.results.map(({ status }) => status), usage.metrics[0].current,
  history.points.map(({ value }) => value),
]));
"""
    done = subprocess.run(
        ["node", "--input-type=module", "-e", code, web.url], cwd=node_package,
        env={**os.environ, "KEY": key}, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    statuses, current, values = json.loads(done.stdout)
    assert statuses == ["accepted", "error"]
    assert Decimal(current) == sum(map(Decimal, values)) == exact + Decimal("1.000009")
