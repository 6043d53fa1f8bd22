"""What is measured, and how it is printed. Needs Django set up."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from bench import ingest, parts
from bench.http import Connection
from counters.services.fold import fold_everything
from stripemeter.lib import clock
from stripemeter.tenancy import services

TENANT = "bench"
FLOOR = "floor: psycopg, unnest(%b) + ON CONFLICT, 2 connections"
BARE = "floor of single posts: a bare Django view, concurrency 10"
GRID_BATCHES = (1, 10, 100, 1_000)
GRID_CONCURRENCY = (1, 10, 100)
READS = 300


def make_key() -> str:
    """A tenant and the plaintext of a key of it."""
    now = clock.now()
    tenant = services.create_tenant(key=TENANT, name="Bench", actor="bench", now=now)
    return services.create_api_key(tenant_id=tenant.pk, name="bench", actor="bench", now=now)[1]


def measure(started: parts.Parts, *, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Every row of the table."""
    key = make_key()
    rows = _against_floor(started, key, seconds, rounds)
    rows += _single_posts(started, key, seconds, rounds)
    with parts.folder():
        rows += _grid(started, key, seconds)
        rows.append(_freshness(started, key, seconds * 2))
    fold_everything(now=clock.now())
    rows += _reads(started, key)
    return rows


def _against_floor(
    started: parts.Parts, key: str, seconds: float, rounds: int
) -> list[dict[str, Any]]:
    def over_http(customers: int) -> ingest.Sample:
        return ingest.http(
            started.url, key, TENANT, batch=1_000, concurrency=4, seconds=seconds,
            customers=customers,
        )  # fmt: skip

    def unfolded(customers: int) -> ingest.Sample:
        sample = over_http(customers)
        fold_everything(now=clock.now())  # or the next kind would pay for this one's counters
        return sample

    def folded(customers: int) -> ingest.Sample:
        with parts.folder():
            return over_http(customers)

    kinds = {
        FLOOR: lambda: ingest.floor(started.dsn, seconds=seconds),
        "the same, arrays packed by our own code": lambda: ingest.floor(
            started.dsn, seconds=seconds, bind=ingest.Rows.by_hand
        ),
        "HTTP, batch 1000, folder off": lambda: unfolded(1_000),
        "HTTP, batch 1000, folder on, 1,000 counters": lambda: folded(1_000),
        "HTTP, batch 1000, folder on, 100,000 uniform": lambda: folded(100_000),
    }
    unfolded(1_000)  # warm up caches, plans and files
    return _ratios(ingest.interleaved(kinds, rounds=rounds), FLOOR)


def _single_posts(
    started: parts.Parts, key: str, seconds: float, rounds: int
) -> list[dict[str, Any]]:
    """One event a request, against the least that Django and the server can do with one."""

    def posts(url: str) -> ingest.Sample:
        return ingest.http(
            url, key, TENANT, batch=1, concurrency=10, seconds=seconds, customers=1_000
        )

    with ExitStack() as stack:
        bare = parts.bare_web(stack)
        posts(bare)  # warm up both
        posts(started.url)
        stack.enter_context(parts.folder())
        kinds = {
            BARE: lambda: posts(bare),
            "HTTP, batch 1, concurrency 10, folder on, against it": lambda: posts(started.url),
        }
        return _ratios(ingest.interleaved(kinds, rounds=rounds), BARE)


def _ratios(found: dict[str, list[ingest.Sample]], floor: str) -> list[dict[str, Any]]:
    """A row for each kind, with the median of its rounds' ratios to the floor."""
    floors = found[floor]
    rows = []
    for name, samples in found.items():
        ratios = sorted(
            sample.rate / base.rate for sample, base in zip(samples, floors, strict=True)
        )
        rows.append(_row(name, ingest.median_of(samples), ratio=ratios[len(ratios) // 2]))
    return rows


def _row(name: str, sample: ingest.Sample, *, ratio: float | None = None) -> dict[str, Any]:
    return {
        "what": name,
        "events_per_s": round(sample.rate),
        "requests_per_s": round(len(sample.latencies_ms) / sample.seconds),
        "ratio_to_floor": None if ratio is None else round(ratio, 2),
        "p50_ms": round(sample.percentile(0.5), 1),
        "p95_ms": round(sample.percentile(0.95), 1),
        "p99_ms": round(sample.percentile(0.99), 1),
        "refused": sample.refused,
    }


def _grid(started: parts.Parts, key: str, seconds: float) -> list[dict[str, Any]]:
    rows = []
    for batch in GRID_BATCHES:
        for concurrency in GRID_CONCURRENCY:
            sample = ingest.http(
                started.url, key, TENANT, batch=batch, concurrency=concurrency,
                seconds=min(seconds, 4), customers=1_000,
            )  # fmt: skip
            rows.append(_row(f"HTTP, batch {batch}, concurrency {concurrency}, folder on", sample))
    return rows


def _freshness(started: parts.Parts, key: str, seconds: float) -> dict[str, Any]:
    """Time from the 200 of a marker event until its counter holds it, under paced load."""
    return asyncio.run(_measure_freshness(started, key, seconds))


async def _measure_freshness(started: parts.Parts, key: str, seconds: float) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    made = [ingest.Bodies(TENANT, 10_000, "cus_").make(1_000) for _ in range(int(seconds * 20))]
    deadline = time.perf_counter() + seconds
    sent = 0

    async def load() -> None:
        """20,000 events/s, by four connections: one alone could not send them."""
        nonlocal sent
        connection = Connection(started.url, headers)
        await connection.open()
        while made and time.perf_counter() < deadline:
            late = len(made) / 20 - (deadline - time.perf_counter())
            if late < 0:
                await asyncio.sleep(-late)
                continue
            await connection.post("/v1/events/ingest", made.pop())
            sent += 1_000

    async def markers() -> list[float]:
        lags = []
        connection = Connection(started.url, headers)
        await connection.open()
        database = await psycopg.AsyncConnection.connect(started.dsn, autocommit=True)
        while time.perf_counter() < deadline:
            customer = f"marker_{uuid.uuid4().hex}"
            event = {
                "tenantId": TENANT, "metric": "api_calls", "customerRef": customer,
                "quantity": 1, "ts": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            }  # fmt: skip
            await connection.post("/v1/events/ingest", json.dumps({"events": [event]}).encode())
            answered = time.perf_counter()
            query = "SELECT 1 FROM counters_counter WHERE customer_ref = %s AND tenant_id > 0"
            while await (await database.execute(query, [customer])).fetchone() is None:
                await asyncio.sleep(0.01)
            lags.append((time.perf_counter() - answered) * 1_000)
            await asyncio.sleep(0.05)
        return lags

    begun = time.perf_counter()
    lags, *_ = await asyncio.gather(markers(), *(load() for _ in range(4)))
    sample = ingest.Sample(sent, time.perf_counter() - begun, lags)
    return _row("freshness of counters at 20,000 events/s offered", sample)


def _reads(started: parts.Parts, key: str) -> list[dict[str, Any]]:
    month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    since = (month - timedelta(days=1)).strftime("%Y-%m-%dT00:00:00Z")
    paths = {
        "read: current usage": f"/v1/usage/current?tenantId={TENANT}&customerRef=cus_",
        "read: history, 30 days": f"/v1/usage/history?tenantId={TENANT}&metric=api_calls"
        f"&since={since}&interval=day&customerRef=cus_",
        "read: newest 25 events of a customer": f"/v1/events?tenantId={TENANT}&customerRef=cus_",
    }
    return [_row(name, asyncio.run(_read(started, key, path))) for name, path in paths.items()]


async def _read(started: parts.Parts, key: str, path: str) -> ingest.Sample:
    connection = Connection(started.url, {"Authorization": f"Bearer {key}"})
    await connection.open()
    sample = ingest.Sample()
    begun = time.perf_counter()
    for number in range(READS):
        sent = time.perf_counter()
        status, _ = await connection.get(f"{path}{number % 1_000}")
        sample.latencies_ms.append((time.perf_counter() - sent) * 1_000)
        sample.refused += status != 200
    sample.seconds = time.perf_counter() - begun
    return sample


def render(rows: list[dict[str, Any]]) -> str:
    """The table, for people and for bench/README.md."""
    head = "| what | events/s | requests/s | / floor | p50 ms | p95 ms | p99 ms | refused |"
    lines = [head, "| --- " * 8 + "|"]
    for row in rows:
        ratio = "" if row["ratio_to_floor"] is None else f"{row['ratio_to_floor']:.0%}"
        lines.append(
            f"| {row['what']} | {row['events_per_s']:,} | {row['requests_per_s']:,} | {ratio} "
            f"| {row['p50_ms']} | {row['p95_ms']} | {row['p99_ms']} | {row['refused']} |"
        )
    return "\n".join(lines)
