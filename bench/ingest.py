"""Ingest against the floor, interleaved in one run.

The floor is what psycopg reaches with the same rows and the same deduplication: one
`INSERT ... SELECT unnest(...) ON CONFLICT DO NOTHING` per 1,000 events, arrays in binary, two
connections. Everything shares two cores: client, web and database. What is sent, to the floor
and over HTTP, is made before the clock starts, as a service has its events at hand.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain, repeat
from uuid import UUID

import psycopg
import uuid_utils
from psycopg.types.json import Jsonb
from psycopg.types.numeric import Int4

from bench.http import Connection
from ledger import packing
from ledger.wire import microseconds

#: More than this machine takes: so much is made ahead of a stretch.
FASTEST_EVENTS, FASTEST_POSTS = 80_000, 2_500
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
CREATE INDEX IF NOT EXISTS bench_floor_time ON bench_floor
    USING brin (recorded_at timestamptz_minmax_ops, ts timestamptz_minmax_multi_ops)
    WITH (pages_per_range = 128, autosummarize = on);
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
                f'"ts":"{now}","idempotencyKey":"{uuid_utils.uuid7()}",'
                f'"meta":{{"region":"eu-west-1","path":"/v1/things","n":{customer}}}}}'
            )
        return f'{{"events":[{",".join(events)}]}}'.encode()

    def stock(self, size: int, seconds: float) -> Iterator[bytes]:
        """Bodies for a stretch of that length, made now; more are made if it runs out."""
        count = int(seconds * min(FASTEST_POSTS, FASTEST_EVENTS / size)) + 1
        made = [self.make(size) for _ in range(count)]
        return chain(made, (self.make(size) for _ in repeat(None)))


@dataclass(frozen=True)
class Rows:
    """The columns of a batch for the floor, sorted by key, as Python holds them."""

    ts: list[datetime]
    keys: list[UUID]
    customers: list[str]
    quantities: list[Decimal]
    key_texts: list[str]
    metas: list[str]

    @classmethod
    def make(cls, generator: random.Random, size: int) -> Rows:
        texts = sorted(str(uuid_utils.uuid7()) for _ in range(size))
        customers = [generator.randrange(1_000) for _ in range(size)]
        return cls(
            [datetime.now(UTC)] * size,
            [UUID(text) for text in texts],
            [f"cus_{customer}" for customer in customers],
            [Decimal(1 + customer % 7) for customer in customers],
            texts,
            [f'{{"n":{c},"path":"/v1/things","region":"eu-west-1"}}' for c in customers],
        )

    def by_psycopg(self) -> list[object]:
        """Bound by psycopg's own binary lists."""
        ones = [Int4(1)] * len(self.keys)
        metas = [Jsonb(meta, dumps=str) for meta in self.metas]
        return [
            self.ts, self.keys, self.keys, ones, self.customers, self.quantities, self.key_texts,
            metas,
        ]  # fmt: skip

    def by_hand(self) -> list[object]:
        """Bound by the packers of ingest."""
        keys = [key.bytes for key in self.keys]
        return [
            packing.timestamps([microseconds(ts) for ts in self.ts]),
            packing.uuids(keys),
            packing.uuids(keys),
            packing.int4s([1] * len(keys)),
            packing.texts(self.customers),
            packing.numerics([str(quantity) for quantity in self.quantities]),
            packing.texts(self.key_texts),
            packing.jsonbs([meta.encode() for meta in self.metas]),
        ]


def floor(
    dsn: str,
    *,
    seconds: float,
    bind: Callable[[Rows], list[object]] = Rows.by_psycopg,
    connections: int = 2,
    batch: int = 1_000,
) -> Sample:
    """Raw psycopg into a table of the same shape and indexes."""
    with psycopg.connect(dsn, autocommit=True) as setup:
        setup.execute(FLOOR_TABLE)
    generator = random.Random(7)
    count = int(seconds * FASTEST_EVENTS / batch / connections) + 1
    stocks = [deque(Rows.make(generator, batch) for _ in range(count)) for _ in range(connections)]
    sample, lock = Sample(), threading.Lock()
    start = threading.Barrier(connections + 1)

    def writer(stock: deque[Rows]) -> None:
        stored = 0
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=2) as connection:
            start.wait()
            deadline = time.perf_counter() + seconds
            while time.perf_counter() < deadline:
                rows = stock.popleft() if stock else Rows.make(generator, batch)
                batch_id = generator.getrandbits(40)
                connection.execute(FLOOR_INSERT, [1, batch_id, datetime.now(UTC), *bind(rows)])
                stored += batch
        with lock:
            sample.events += stored

    threads = [threading.Thread(target=writer, args=(stock,)) for stock in stocks]
    for thread in threads:
        thread.start()
    start.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    sample.seconds = time.perf_counter() - started
    return sample


async def _post_for(
    url: str, headers: dict[str, str], bodies: Bodies, batch: int, concurrency: int, seconds: float
) -> Sample:
    sample = Sample()
    stock = bodies.stock(batch, seconds)
    connections = [Connection(url, headers) for _ in range(concurrency)]
    for connection in connections:
        await connection.open()
    deadline = time.perf_counter() + seconds

    async def loop(connection: Connection) -> None:
        while time.perf_counter() < deadline:
            body = next(stock)
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
