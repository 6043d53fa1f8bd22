"""``python -m bench.reconcile``: ledger against counters, and cursors against the sandbox.

Own database with durable settings, the sandbox with its rate limits off, all on one
machine. Prints both times with the counts, and writes JSON. Filling takes longer than the
measurement: ``--pause`` waits for a line on standard input in between, so that the machine
can be kept quiet for the measurement alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from bench import parts, pushes

RESULTS = Path(__file__).resolve().parent / "results"
#: Events over a month, spread evenly over the counters; inserted as the ledger stores them.
_EVENTS = """
INSERT INTO ledger_event (tenant_id, batch_id, ts, recorded_at, key, fingerprint, metric_id,
                          customer_ref, quantity, source)
SELECT %(tenant)s, n / 1000, %(start)s::timestamptz + (n %% 2419200) * interval '1 second',
       %(start)s, uuid_in(md5(n::text)::cstring), uuid_in(md5(n::text)::cstring), %(metric)s,
       'customer' || (n %% %(counters)s), (n %% 97) + 1, 'http'
FROM generate_series(%(first)s::bigint, %(last)s::bigint) n
"""
_COUNTERS = """
INSERT INTO counters_counter (tenant_id, metric_id, customer_ref, period_start, period_end, sum,
    event_count, max, min, unique_count, adjusted, revision)
SELECT tenant_id, metric_id, customer_ref, date_trunc('month', ts),
       date_trunc('month', ts) + interval '1 month', sum(quantity), count(*), max(quantity),
       min(quantity), 0, 0, 1
FROM ledger_event WHERE tenant_id = %(tenant)s GROUP BY 1, 2, 3, 4, 5
"""
_ROLLUPS = """
INSERT INTO counters_dailyrollup (tenant_id, metric_id, customer_ref, period_start, day, sum,
    event_count, max, min)
SELECT tenant_id, metric_id, customer_ref, date_trunc('month', ts), ts::date, sum(quantity),
       count(*), max(quantity), min(quantity)
FROM ledger_event WHERE tenant_id = %(tenant)s GROUP BY 1, 2, 3, 4, 5
"""
FILL_ROWS = 500_000
#: One event behind each made-up counter of `bench.pushes`, so that ledger and counter agree.
_BEHIND = """
INSERT INTO ledger_event (tenant_id, batch_id, ts, recorded_at, key, fingerprint, metric_id,
                          customer_ref, quantity, source)
SELECT tenant_id, 0, %(now)s, %(now)s, uuidv, uuidv, metric_id, customer_ref, 7, 'http'
FROM (SELECT *, uuid_in(md5(metric_id || customer_ref)::cstring) AS uuidv
      FROM counters_counter WHERE tenant_id = %(tenant)s) c
"""
_EXTREMES = "UPDATE {table} SET max = 7, min = 7 WHERE tenant_id = %(tenant)s"


def main() -> None:
    """Fill, compare, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--counters", type=int, default=100_000)
    parser.add_argument("--cursors", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=8, help="readers of Stripe")
    parser.add_argument("--pause", action="store_true", help="wait for a line before measuring")
    arguments = parser.parse_args()
    row: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
    }
    with ExitStack() as stack:
        parts.start_data(stack)
        from billing.stripe_sandbox.process import SandboxProcess

        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-stripe-")))
        file = folder / "stripe.sqlite3"
        sandbox = stack.enter_context(SandboxProcess(db=str(file)))
        os.environ.update(
            STRIPE_API_BASE=sandbox.url,
            STRIPE_METER_EVENTS_BASE=sandbox.url,
            STRIPE_SECRET_KEY="sk_live_for_the_bench",
            STRIPE_READ_THREADS=str(arguments.threads),
        )
        import django

        django.setup()
        # Cursors first: they make rollups for every counter that is there.
        if arguments.cursors:
            row |= _cursors(arguments.cursors, file, pause=arguments.pause)
        if arguments.events:
            row |= _ledger(arguments.events, arguments.counters, pause=arguments.pause)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "reconcile.json").write_text(json.dumps(row, indent=1) + "\n")
    for name, value in row.items():
        print(f"{name:28} {value}")


def _wait(*, pause: bool) -> None:
    """Say that everything is filled; with ``pause`` wait for a line."""
    if pause:
        print("filled", flush=True)
        sys.stdin.readline()


def _ledger(events: int, counters: int, *, pause: bool) -> dict[str, Any]:
    """Time of one comparison of every counter with the ledger."""
    from django.db import connection

    from counters.services.recompute import Scope, differences
    from ledger.services.registry import metric_ids
    from stripemeter.lib import clock
    from stripemeter.lib.periods import utc_month
    from stripemeter.tenancy.services import create_tenant

    now = clock.now()
    month = utc_month(utc_month(now).start.replace(day=1))
    tenant = create_tenant(key="ledger", name="Ledger", actor="bench", now=now)
    metric = metric_ids(tenant.pk, {"requests"})["requests"]
    values = {
        "tenant": tenant.pk,
        "metric": metric,
        "start": month.start,
        "counters": counters,
    }
    with connection.cursor() as cursor:
        for first in range(0, events, FILL_ROWS):
            last = min(first + FILL_ROWS, events) - 1
            cursor.execute(_EVENTS, values | {"first": first, "last": last})
        cursor.execute(_COUNTERS, values)
        cursor.execute(_ROLLUPS, values)
        cursor.execute("ANALYZE")
    _wait(pause=pause)
    started = time.perf_counter()
    found = differences(Scope(tenant.pk, (metric,), month.start, month.end))
    return {
        "events": events,
        "counters": counters,
        "ledger_seconds": round(time.perf_counter() - started, 1),
        "ledger_differences": len(found),
    }


def _cursors(wanted: int, file: Path, *, pause: bool) -> dict[str, Any]:
    """Time of one run over cursors whose pushes are at the sandbox."""
    from django.db import connection

    from reconciliation.services import runs
    from stripemeter.lib import clock
    from stripemeter.tenancy.models import Tenant

    cursors = pushes._fill(wanted)
    tenant = Tenant.objects.get(key="bench")
    with connection.cursor() as cursor:
        values = {"tenant": tenant.pk, "now": clock.now()}
        cursor.execute(_BEHIND, values)
        for table in ("counters_counter", "counters_dailyrollup"):
            cursor.execute(_EXTREMES.format(table=table), values)
    _tell(tenant.pk, file, clock.now())
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    run, _ = runs.request_run(tenant_id=tenant.pk, actor="bench", now=clock.now())
    claimed = runs.claim(now=clock.now(), run_id=run.pk)
    assert claimed is not None
    _wait(pause=pause)
    started, cpu = time.perf_counter(), time.process_time()
    done = runs.execute(claimed, clock=clock.now)
    seconds = time.perf_counter() - started
    return {
        "cursors": cursors,
        "run_seconds": round(seconds, 1),
        "run_cpu_ms_per_cursor": round((time.process_time() - cpu) * 1000 / cursors, 2),
        "cursors_per_second": round(done.cursors / seconds, 1),
        "in_parity": done.parity,
        "differing": done.drifting,
        "stripe_reads": done.stripe_reads,
    }


def _tell(tenant_id: int, file: Path, now: datetime) -> None:
    """One acknowledged push for every counter, written to both sides without a call."""
    from billing.models import CustomerLink, PriceMapping, Push, StripeAccount
    from billing.services.accounts import ensure_accounts
    from billing.stripe.meters import find_meter
    from counters.models import Counter

    ensure_accounts()
    account = StripeAccount.objects.get(account="default", mode="live")
    links = dict(
        CustomerLink.objects.filter(tenant_id=tenant_id).values_list(
            "customer_ref", "stripe_customer_id"
        )
    )
    mappings = {each.metric_id: each for each in PriceMapping.objects.select_related("metric")}
    meters = {}
    for each in mappings.values():
        meter = find_meter(mode="live", account="default", event_name=each.metric.name)
        assert meter is not None
        meters[each.metric_id] = meter["id"]
    made, told = [], []
    counters = Counter.objects.filter(tenant_id=tenant_id).order_by("metric_id", "customer_ref")
    for number, counter in enumerate(counters.iterator(chunk_size=5_000), 1):
        mapping = mappings[counter.metric_id]
        customer = links[counter.customer_ref]
        made.append(
            Push(
                tenant_id=tenant_id,
                id=UUID(int=number),
                mapping_id=mapping.pk,
                customer_ref=counter.customer_ref,
                period_start=counter.period_start,
                mode="live",
                slice_day=now.date(),
                sequence=1,
                account=account,
                semantics="increment",
                target=mapping.metric.name,
                stripe_customer_id=customer,
                identifier=f"bench-{number}",
                value=7,
                delta=7,
                stamped_at=now,
                state="acknowledged",
                not_before=now,
                created_at=now,
                settled_at=now - timedelta(hours=1),
            )
        )
        told.append((meters[counter.metric_id], customer, int(now.timestamp()), f"bench-{number}"))
    Push.objects.bulk_create(made, batch_size=5_000)
    _tell_sandbox(file, told)


def _tell_sandbox(file: Path, told: list[tuple[str, str, int, str]]) -> None:
    """Meter events as (meter, customer, timestamp, identifier), seven units each."""
    with sqlite3.connect(file, timeout=60) as sandbox:
        (world,) = sandbox.execute(
            "SELECT DISTINCT world FROM objects WHERE kind = 'meter'"
        ).fetchone()
        sandbox.executemany(
            "INSERT INTO meter_events (world, meter, customer, ts, value, identifier, received,"
            " visible, state) VALUES (?, ?, ?, ?, '7', ?, 0, 0, 'applied')",
            [(world, *row) for row in told],
        )
    sandbox.close()


if __name__ == "__main__":
    main()
