"""``python -m bench.caps``: what `GET /v1/caps/check` takes, with usage folded and pending.

Server time is that of the whole request inside one process (Django's test client, with
authentication, limits and middleware); over HTTP the same against the web server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import parts
from bench.http import Connection

RESULTS = Path(__file__).resolve().parent / "results"
CUSTOMERS, RULES, PENDING = 1_000, 50, 50
PATH = "/v1/caps/check?metric=api_calls&quantity=1&customerRef=cus_"
_COUNTERS = """
INSERT INTO counters_counter (tenant_id, metric_id, customer_ref, period_start, period_end, sum,
    event_count, max, min, unique_count, adjusted, revision)
SELECT %(tenant)s, %(metric)s, 'cus_' || n, %(start)s, %(end)s, n, 1, n, n, 0, 0, 1
FROM generate_series(0, %(last)s) n
"""


def main() -> None:
    """Fill, ask, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--counters", type=int, default=100_000)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        started = parts.start(stack)
        import django

        django.setup()
        key = _fill(arguments.counters)
        rows = [
            _row("in process: the whole request", _in_process(key, arguments.requests)),
            _row("HTTP, concurrency 1", asyncio.run(_http(started, key, arguments.requests))),
        ]
    found = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "counters": arguments.counters,
        "rules": RULES,
        "pending_batches": PENDING,
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "caps.json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"load {os.getloadavg()[0]:.1f}, {arguments.counters:,} counters, {RULES} rules")
    for row in rows:
        print(f"{row['what']}: p50 {row['p50_ms']} ms, p95 {row['p95_ms']} ms, p99 {row['p99_ms']}")


def _fill(counters: int) -> str:
    from django.db import connection

    from billing.services.alert_rules import create_rule
    from billing.services.mappings import Actor
    from ledger.services.registry import metric_ids
    from stripemeter.lib import clock
    from stripemeter.lib.periods import utc_month
    from stripemeter.tenancy import services

    now = clock.now()
    tenant = services.create_tenant(key="bench", name="Bench", actor="bench", now=now)
    actor = Actor(tenant.pk, "bench", now)
    for number in range(RULES):
        values = {"type": "threshold", "threshold": 10**9, "action": "hard_cap", "config": {}}
        create_rule(
            actor=actor,
            metric="api_calls",
            values={**values, "customer_ref": f"cus_{number}" if number else None},
        )
    period = utc_month(now)
    with connection.cursor() as cursor:
        cursor.execute(
            _COUNTERS,
            {
                "tenant": tenant.pk,
                "metric": metric_ids(tenant.pk, {"api_calls"})["api_calls"],
                "start": period.start,
                "end": period.end,
                "last": counters - 1,
            },
        )
        cursor.execute("ANALYZE counters_counter")
    _leave_pending(tenant, now)
    return services.create_api_key(tenant_id=tenant.pk, name="b", actor="bench", now=now)[1]


def _leave_pending(tenant: Any, now: datetime) -> None:
    """Batches of ten events that no fold has taken yet."""
    from tests.builders.ledger import make_event, store

    for batch in range(PENDING):
        store(
            tenant,
            *(
                make_event(1, customer=f"cus_{n}", ts=now, idempotencyKey=f"{batch}-{n}")
                for n in range(10)
            ),
            now=now,
        )


def _in_process(key: str, requests: int) -> list[float]:
    from django.test import Client

    client, headers = Client(), {"Authorization": f"Bearer {key}"}
    taken = []
    for number in range(requests):
        begun = time.perf_counter()
        answer = client.get(f"{PATH}{number % CUSTOMERS}", headers=headers)
        taken.append((time.perf_counter() - begun) * 1_000)
        assert answer.status_code == 200, answer.content
    return taken[requests // 10 :]


async def _http(started: parts.Parts, key: str, requests: int) -> list[float]:
    connection = Connection(started.url, {"Authorization": f"Bearer {key}"})
    await connection.open()
    taken = []
    for number in range(requests):
        begun = time.perf_counter()
        status, _ = await connection.get(f"{PATH}{number % CUSTOMERS}")
        taken.append((time.perf_counter() - begun) * 1_000)
        assert status == 200
    return taken[requests // 10 :]


def _row(what: str, taken: list[float]) -> dict[str, Any]:
    ordered = sorted(taken)

    def at(share: float) -> float:
        return round(ordered[int(len(ordered) * share)], 2)

    return {"what": what, "p50_ms": at(0.5), "p95_ms": at(0.95), "p99_ms": at(0.99)}


if __name__ == "__main__":
    main()
