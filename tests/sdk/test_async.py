"""The asyncio client keeps every promise of the blocking one."""

import asyncio
import inspect
import subprocess
import sys
from decimal import Decimal

import pytest

from stripemeter.sdk import (
    AsyncStripeMeterClient,
    BufferFull,
    ClientClosed,
    DeliveryFailed,
    EventRejected,
    RetryPolicy,
    StripeMeterClient,
)
from tests.sdk.conftest import EAGER
from tests.sdk.test_spool import crash

PATIENT = RetryPolicy(pause_base=3600.0, pause_max=3600.0)


@pytest.fixture
def make_async(server, errors):
    def make(**options):
        defaults = {
            "api_url": server.url,
            "tenant_id": "acme",
            "customer_id": "c1",
            "retry_policy": EAGER,
            "flush_interval": 3600.0,
            "on_error": lambda error, events: errors.append((error, list(events))),
        }
        return AsyncStripeMeterClient(**{**defaults, **options})

    return make


async def seen(server, condition):
    await asyncio.to_thread(server.wait_for, condition)


def test_an_event_is_sent_retried_and_counted_once(server, make_async):
    async def scenario():
        async with make_async() as client:
            server.faults.extend(["drop_after_apply", "503"])
            result = await client.track("m", quantity=Decimal("0.5"))
            assert result.duplicates == 1
            await client.track_batch([{"metric": "m"} for _ in range(1500)])

    asyncio.run(scenario())
    assert server.total == Decimal("1500.5")


def test_refusals_are_raised_isolated_and_reported(server, make_async, errors):
    server.refuse_metric = "bad"

    async def scenario():
        async with make_async() as client:
            with pytest.raises(EventRejected):
                await client.track("bad")
            result = await client.track_batch([{"metric": "bad"}, {"metric": "good"}])
            assert [row.status for row in result.results] == ["error", "accepted"]
            server.faults.append("401")
            with pytest.raises(DeliveryFailed) as caught:
                await client.track("good")
            assert caught.value.status_code == 401

    asyncio.run(scenario())
    assert len(errors) == 2


def test_the_buffer_is_flushed_by_size_time_and_close(server, make_async):
    async def scenario():
        async with make_async(batch_size=3) as client:
            for _ in range(3):
                await client.buffer("m")
            await seen(server, lambda: len(server.requests) == 1)
        async with make_async(flush_interval=0.05) as client:
            await client.buffer("m")
            await seen(server, lambda: len(server.requests) == 2)
        async with make_async() as client:
            await client.buffer("m")

    asyncio.run(scenario())
    assert [len(request["events"]) for request in server.requests] == [3, 1, 1]


def test_a_failed_background_flush_is_reported_and_tried_again(server, make_async, errors):
    server.faults.extend(["503"] * 3)

    async def scenario():
        async with make_async(batch_size=1, retry_attempts=0) as client:
            await client.buffer("m")
            await seen(server, lambda: len(server.requests) == 4)

    asyncio.run(scenario())
    assert server.total == 1
    assert [type(error) for error, _ in errors] == [DeliveryFailed] * 3


def test_flush_does_not_wait_for_a_background_pause_and_keeps_what_fails(server, make_async):
    async def scenario():
        async with make_async(batch_size=1, retry_policy=PATIENT, retry_attempts=0) as client:
            server.faults.extend(["503", "500_after_apply"])
            await client.buffer("m")
            await seen(server, lambda: server.requests)
            with pytest.raises(DeliveryFailed):
                await client.flush()
            assert client.pending == 1
            result = await client.flush()
            assert (result.duplicates, client.pending) == (1, 0)
            assert await client.flush() is None

    asyncio.run(scenario())
    assert server.total == 1


def test_a_full_buffer_raises_or_blocks_and_drops_nothing(server, make_async):
    async def scenario():
        async with make_async(batch_size=2, max_buffered=2) as client:
            await client.buffer("m")
            await client.buffer("m")
            with pytest.raises(BufferFull):
                await client.buffer("m")
        async with make_async(batch_size=5, max_buffered=5, on_full="block") as client:
            await asyncio.gather(*(client.buffer("m") for _ in range(100)))

    asyncio.run(scenario())
    assert server.total == 102


def test_a_blocked_caller_is_let_go_by_close(server, make_async):
    async def scenario():
        server.faults.append("503")
        client = make_async(batch_size=1, max_buffered=1, on_full="block", retry_policy=PATIENT)
        await client.buffer("m")
        await seen(server, lambda: server.requests)
        blocked = asyncio.create_task(client.buffer("m"))
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(ClientClosed):
            await blocked

    asyncio.run(scenario())
    assert server.total == 1


def test_a_cancelled_flush_loses_nothing(server, make_async):
    async def scenario():
        async with make_async(retry_policy=PATIENT) as client:
            server.faults.append("500_after_apply")
            await client.buffer("m")
            flushing = asyncio.create_task(client.flush())
            await seen(server, lambda: server.requests)
            flushing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await flushing
            assert client.pending == 1
            assert (await client.flush()).duplicates == 1

    asyncio.run(scenario())
    assert server.total == 1


def test_close_hands_back_what_it_could_not_deliver(server, make_async):
    async def scenario():
        client = make_async(retry_attempts=0)
        await client.buffer("m", quantity=3)
        server.faults.append("401")
        with pytest.raises(DeliveryFailed) as caught:
            await client.close()
        async with make_async() as other:
            assert (await other.track_batch(caught.value.events)).accepted == 1

    asyncio.run(scenario())
    assert server.total == 3


def test_the_spool_of_a_crashed_caller_is_replayed(server, make_async, tmp_path):
    keys = crash(server, tmp_path, 20)

    async def scenario():
        async with make_async(spool_dir=tmp_path) as client:
            assert client.pending == 20
            await client.buffer("m", quantity=100)

    asyncio.run(scenario())
    sent = [event["idempotencyKey"] for request in server.requests for event in request["events"]]
    assert sent[:20] == keys
    assert server.total == sum(range(20)) + 100
    assert list(tmp_path.iterdir()) == []


def test_usage_projection_and_history_are_read(server, make_async):
    async def scenario():
        async with make_async() as client:
            usage = await client.get_usage()
            projection = await client.get_projection()
            history = await client.get_history("m", since="-P1D")
        return usage["api_calls"], projection.total, history.total

    exact = Decimal("12345678901234567890.123456789012")
    assert asyncio.run(scenario()) == (exact, Decimal("2.5"), 2)


def test_what_a_loop_leaves_behind_is_sent_when_the_interpreter_ends(server):
    code = """
import asyncio, sys
from stripemeter import AsyncStripeMeterClient
async def main():
    client = AsyncStripeMeterClient(sys.argv[1], "acme", "c1")
    for _ in range(7):
        await client.buffer("m")
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code, server.url],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert server.total == 7


def test_both_clients_take_the_same_options_and_have_the_same_methods():
    def shape(client):
        return {
            name: list(inspect.signature(member).parameters)
            for name, member in inspect.getmembers(client, inspect.isfunction)
            if not name.startswith("_") or name == "__init__"
        }

    sync, asyncio_ = shape(StripeMeterClient), shape(AsyncStripeMeterClient)
    assert asyncio_ == sync
    assert {"track", "track_batch", "buffer", "flush", "get_usage", "get_projection",
            "get_history", "close"} <= set(sync)  # fmt: skip
    assert {"api_url", "tenant_id", "customer_id", "api_key", "timeout", "retry_attempts",
            "batch_size"} <= set(sync["__init__"])  # fmt: skip
