"""``python -m bench.backfill``: what live ingest feels of a backfill beside it.

Requests are sent at a fixed pace and timed from the instant they were due, so a stall is counted
for all who wait in it. Rounds without and with a backfill alternate; a folder runs throughout.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

from bench import ingest, parts
from bench.http import Connection

#: A process of its own, as the worker's.
WORKER = [
    sys.executable, "-c",
    "import django, time; django.setup()\nfrom ledger.tasks import backfill\n"
    "while True:\n    backfill()\n    time.sleep(0.2)",
]  # fmt: skip


async def _paced(url: str, key: str, *, pace: float, batch: int, seconds: float) -> list[float]:
    """Latency in ms of each request, from when it was due."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    bodies = ingest.Bodies("bench", 1_000, "cus_")
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(8):
        connection = Connection(url, headers)
        await connection.open()
        free.put_nowait(connection)
    found: list[float] = []

    async def one(due: float) -> None:
        body = bodies.make(batch)
        connection = await free.get()
        status, _answer = await connection.post("/v1/events/ingest", body)
        found.append((time.perf_counter() - due) * 1_000)
        free.put_nowait(connection)
        assert status == 200, status

    started, tasks = time.perf_counter(), []
    for number in range(int(pace * seconds)):
        due = started + number / pace
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(due)))
    await asyncio.gather(*tasks)
    return found


def _queue(tenant_id: int, rows: int, salt: str) -> Any:
    from ledger.files import Record
    from ledger.services import backfill
    from stripemeter.lib import clock

    now = datetime.now(UTC)
    start = now - timedelta(hours=40)

    def records() -> Iterator[Record]:
        for line in range(1, rows + 1):
            ts = start + timedelta(milliseconds=line)
            yield Record(line, {"metric": "api_calls", "customerRef": f"cus_{line % 1_000}",
                                "quantity": 1, "ts": ts.isoformat(),
                                "idempotencyKey": f"{salt}-{line}"})  # fmt: skip

    return backfill.create_backfill(
        tenant_id=tenant_id, tenant_key="bench", rows=records(),
        declared=backfill.Declared(start.date(), now.date(), "bench", "events"),
        actor="bench", now=clock.now(),
    )  # fmt: skip


def _p(values: list[float], share: float) -> float:
    return round(statistics.quantiles(values, n=100)[int(share * 100) - 1], 1)


def main() -> None:
    """Alternate, and print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pace", type=float, default=50, help="requests a second")
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rows", type=int, default=200_000, help="of each round's backfill")
    given = parser.parse_args()
    with ExitStack() as stack:
        started = parts.start(stack)
        import django

        django.setup()
        from bench import scenarios
        from ledger.services import operations
        from stripemeter.tenancy.models import Tenant

        key = scenarios.make_key()
        tenant = Tenant.objects.get(key="bench")
        quiet: list[float] = []
        beside: list[float] = []
        done = 0

        def run() -> list[float]:
            return asyncio.run(
                _paced(started.url, key, pace=given.pace, batch=given.batch, seconds=given.seconds)
            )

        with parts.folder():
            run()  # warm up
            for number in range(given.rounds):
                quiet += run()
                operation = _queue(tenant.pk, given.rows, f"r{number}")
                with parts._process(WORKER):
                    while operation.steps_done == 0:
                        time.sleep(0.1)
                        operation.refresh_from_db()
                    beside += run()
                operation.refresh_from_db()
                done += operation.result["accepted"]
                if operation.status in operations.TO_DO:
                    operations.cancel(
                        tenant_id=tenant.pk, operation_id=operation.id, actor="bench",
                        now=datetime.now(UTC) + timedelta(hours=1),
                    )  # fmt: skip
        print(json.dumps({
            "requests": len(quiet), "events_per_s": given.pace * given.batch,
            "alone_p50_ms": _p(quiet, 0.5), "alone_p95_ms": _p(quiet, 0.95),
            "beside_p50_ms": _p(beside, 0.5), "beside_p95_ms": _p(beside, 0.95),
            "p95_ratio": round(_p(beside, 0.95) / _p(quiet, 0.95), 2),
            "backfilled": done, "load_average": os.getloadavg()[0],
        }, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
