"""Ingest against the floor, interleaved in one run.

The floor is what psycopg reaches with the same rows and the same deduplication: one
`INSERT ... SELECT unnest(...) ON CONFLICT DO NOTHING` per 1,000 events, arrays in binary, two
connections. Everything shares two cores: client, web and database.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psycopg

from bench.http import Connection
from ledger import packing
from ledger.wire import microseconds

FLOOR_TABLE = """
CREATE TABLE IF NOT EXISTS bench_floor (
    tenant_id bigint NOT NULL, batch_id bigint NOT NULL, ts timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL, key uuid NOT NULL, fingerprint uuid NOT NULL,
    metric_id int NOT NULL, customer_ref text COLLATE "C" NOT NULL,
    resource_id text COLLATE "C", quantity numeric NOT NULL, source text COLLATE "C" NOT NULL,
    key_text text COLLATE "C", meta jsonb, PRIMARY KEY (tenant_id, key));
CREATE INDEX IF NOT EXISTS bench_floor_batch ON bench_floor (batch_id);
CREATE INDEX IF NOT EXISTS bench_floor_series
    ON bench_floor (tenant_id, metric_id, customer_ref, ts);
CREATE INDEX IF NOT EXISTS bench_floor_arrival ON bench_floor USING brin (recorded_at)
    WITH (pages_per_range = 32);
"""
FLOOR_INSERT = """
INSERT INTO bench_floor (tenant_id, batch_id, ts, recorded_at, key, fingerprint, metric_id,
    customer_ref, resource_id, quantity, source, key_text, meta)
SELECT %b, %b, u.ts, %b, u.key, u.fingerprint, u.metric_id, u.customer_ref, NULL, u.quantity,
    'http', u.key_text, u.meta
FROM unnest(%b::timestamptz[], %b::uuid[], %b::uuid[], %b::int4[], %b::text[], %b::numeric[],
            %b::text[], %b::jsonb[])
  AS u(ts, key, fingerprint, metric_id, customer_ref, quantity, key_text, meta)
ON CONFLICT DO NOTHING
"""


@dataclass
class Sample:
    """One timed stretch of one kind."""

    events: int = 0
    seconds: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)
    refused: int = 0

    @property
    def rate(self) -> float:
        return self.events / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies_ms)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


class Bodies:
    """Makes request bodies; every event has its own UUID version 7 key and three meta fields."""

    def __init__(self, tenant: str, customers: int, prefix: str) -> None:
        self.tenant, self.customers, self.prefix = tenant, customers, prefix
        self.random = random.Random(7)

    def make(self, size: int) -> bytes:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        events = []
        for _ in range(size):
            customer = self.random.randrange(self.customers)
            events.append(
                f'{{"tenantId":"{self.tenant}","metric":"api_calls",'
                f'"customerRef":"{self.prefix}{customer}","quantity":{1 + customer % 7},'
                f'"ts":"{now}","idempotencyKey":"{uuid.uuid4()}",'
                f'"meta":{{"region":"eu-west-1","path":"/v1/things","n":{customer}}}}}'
            )
        return f'{{"events":[{",".join(events)}]}}'.encode()


def floor(dsn: str, *, seconds: float, connections: int = 2, batch: int = 1_000) -> Sample:
    """Raw psycopg into a table of the same shape and indexes."""
    with psycopg.connect(dsn, autocommit=True) as setup:
        setup.execute(FLOOR_TABLE)
    sample, lock = Sample(), threading.Lock()
    deadline = time.perf_counter() + seconds

    def writer(seed: int) -> None:
        generator = random.Random(seed)
        stored = 0
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=2) as connection:
            while time.perf_counter() < deadline:
                parameters = _floor_rows(generator, batch)
                connection.execute(FLOOR_INSERT, parameters)
                stored += batch
        with lock:
            sample.events += stored

    started = time.perf_counter()
    threads = [threading.Thread(target=writer, args=(seed,)) for seed in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sample.seconds = time.perf_counter() - started
    return sample


def _floor_rows(generator: random.Random, batch: int) -> list[object]:
    now = datetime.now(UTC)
    ts = microseconds(now)
    keys = sorted(uuid.uuid4().bytes for _ in range(batch))
    customers = [f"cus_{generator.randrange(1_000)}" for _ in range(batch)]
    meta = b'{"n":7,"path":"/v1/things","region":"eu-west-1"}'
    return [
        1,
        generator.getrandbits(40),
        now,
        packing.timestamps([ts] * batch),
        packing.uuids(keys),
        packing.uuids(keys),
        packing.int4s([1] * batch),
        packing.texts(customers),
        packing.numerics(["1"] * batch),
        packing.texts([str(uuid.UUID(bytes=key)) for key in keys]),
        packing.jsonbs([meta] * batch),
    ]


async def _post_for(
    url: str, headers: dict[str, str], bodies: Bodies, batch: int, concurrency: int, seconds: float
) -> Sample:
    sample = Sample()
    connections = [Connection(url, headers) for _ in range(concurrency)]
    for connection in connections:
        await connection.open()
    deadline = time.perf_counter() + seconds

    async def loop(connection: Connection) -> None:
        while time.perf_counter() < deadline:
            body = bodies.make(batch)
            sent = time.perf_counter()
            status, _answer = await connection.post("/v1/events/ingest", body)
            sample.latencies_ms.append((time.perf_counter() - sent) * 1_000)
            if status == 200:
                sample.events += batch
            else:
                sample.refused += 1

    started = time.perf_counter()
    await asyncio.gather(*(loop(connection) for connection in connections))
    sample.seconds = time.perf_counter() - started
    for connection in connections:
        connection.close()
    return sample


def http(
    url: str, key: str, tenant: str, *, batch: int, concurrency: int, seconds: float, customers: int
) -> Sample:
    """Batches over HTTP with an API key, each connection waiting for its answer."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    bodies = Bodies(tenant, customers, "cus_")
    return asyncio.run(_post_for(url, headers, bodies, batch, concurrency, seconds))


def median_of(samples: list[Sample]) -> Sample:
    """The sample with the median rate."""
    return sorted(samples, key=lambda sample: sample.rate)[len(samples) // 2]


def interleaved(kinds: dict[str, Callable[[], Sample]], *, rounds: int) -> dict[str, list[Sample]]:
    """Run every kind once per round, so that noise of the machine falls on all alike."""
    found: dict[str, list[Sample]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, run in kinds.items():
            found[name].append(run())
    return found
