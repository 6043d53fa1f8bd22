"""``python -m bench.pushes``: dirty cursors pushed to the Stripe sandbox by worker processes.

Own database with durable settings, the sandbox with its rate limits off, all on one
machine. Two rounds: the first pushes of new cursors, one v1 call each, and a catch-up in
which every cursor moved again, over the v2 stream. Prints pushes a second and checks that
Stripe holds exactly what was counted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench import parts

RESULTS = Path(__file__).resolve().parent / "results"
CUSTOMERS_MAX = 1_000
_COUNTERS = """
INSERT INTO counters_counter (tenant_id, metric_id, customer_ref, period_start, period_end,
    sum, event_count, unique_count, adjusted, revision)
SELECT %(tenant)s, m, c, date_trunc('month', %(now)s::timestamptz),
       date_trunc('month', %(now)s::timestamptz) + interval '1 month', 7, 1, 0, 0, 1
FROM unnest(%(metrics)s::int[]) m, unnest(%(customers)s::text[]) c
"""
_ROLLUPS = """
INSERT INTO counters_dailyrollup (tenant_id, metric_id, customer_ref, period_start, day,
    sum, event_count)
SELECT tenant_id, metric_id, customer_ref, period_start, %(now)s::date, 7, 1
FROM counters_counter
"""


def main() -> None:
    """Start everything, push, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cursors", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        parts.start_data(stack)
        from billing.stripe_sandbox.process import SandboxProcess

        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-stripe-")))
        sandbox = stack.enter_context(SandboxProcess(db=str(folder / "stripe.sqlite3")))
        os.environ.update(
            STRIPE_API_BASE=sandbox.url,
            STRIPE_METER_EVENTS_BASE=sandbox.url,
            STRIPE_SECRET_KEY="sk_live_for_the_bench",
        )
        import django

        django.setup()
        cursors = _fill(arguments.cursors)
        rows = []
        for name, each in (("first pushes, v1", 7), ("catch-up, v2 stream", 12)):
            if rows:
                _move(each)
            row = {"round": name, **_push(arguments.workers, cursors)}
            total = sum((Decimal(day["sum"]) for day in sandbox.totals()), Decimal(0))
            row["stripe_has_everything"] = total == each * cursors
            rows.append(row)
            for key, value in row.items():
                print(f"{key:28} {value}")
            print(flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "pushes.json").write_text(json.dumps(rows, indent=1) + "\n")


def _fill(wanted: int) -> int:
    from django.db import connection

    from billing.models import CustomerLink, PriceMapping
    from billing.stripe.client import client_for
    from ledger.services.registry import metric_ids
    from stripemeter.lib import clock
    from stripemeter.tenancy.services import create_tenant

    now = clock.now()
    tenant = create_tenant(key="bench", name="Bench", actor="bench", now=now)
    customers = min(CUSTOMERS_MAX, wanted)
    names = [f"metric{number}" for number in range(max(1, wanted // customers))]
    ids = metric_ids(tenant.pk, set(names))
    api: Any = client_for("live").v1
    for number, name in enumerate(names):
        api.billing.meters.create(
            {
                "display_name": name,
                "event_name": name,
                "default_aggregation": {"formula": "sum"},
            }
        )
        PriceMapping.objects.create(
            id=f"00000000-0000-7000-8000-{number:012d}",
            tenant=tenant,
            metric_id=ids[name],
            aggregation="sum",
            stripe_account="default",
            price_id="price_bench",
            created_at=now,
            updated_at=now,
        )
    refs = [f"customer{number}" for number in range(customers)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda ref: api.customers.create({"name": ref}).id, refs))
    CustomerLink.objects.bulk_create(
        CustomerLink(
            tenant=tenant,
            customer_ref=ref,
            stripe_customer_id=stripe_id,
            created_at=now,
            created_by="bench",
        )
        for ref, stripe_id in zip(refs, found, strict=True)
    )
    with connection.cursor() as cursor:
        parameters = {
            "tenant": tenant.pk,
            "metrics": list(ids.values()),
            "customers": refs,
            "now": now,
        }
        cursor.execute(_COUNTERS, parameters)
        cursor.execute(_ROLLUPS, parameters)
        cursor.execute("ANALYZE")
    connection.close()
    return len(refs) * len(names)


def _move(total: int) -> None:
    """Every cursor has new usage today, up to ``total``."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("UPDATE counters_dailyrollup SET sum = %s", [total])
        cursor.execute("UPDATE counters_counter SET sum = %s, revision = revision + 1", [total])
        cursor.execute("ANALYZE")
    connection.close()


def _push(workers: int, cursors: int) -> dict[str, Any]:
    command = [sys.executable, "manage.py", "push", "--seconds", "3600"]
    from django.db import connection
    from django.db.models import Max, Min

    from billing.models import Push, PushAttempt

    before = Push.objects.filter(state="acknowledged").count()
    since = PushAttempt.objects.aggregate(last=Max("finished_at"))["last"]
    connection.close()
    cpu_before = _cpu_of_children()
    started = time.perf_counter()
    running = [
        subprocess.Popen(command, cwd=parts.ROOT, stdout=subprocess.DEVNULL) for _ in range(workers)
    ]
    codes = [each.wait() for each in running]
    seconds = time.perf_counter() - started
    cpu = _cpu_of_children() - cpu_before
    acknowledged = Push.objects.filter(state="acknowledged").count() - before
    attempts = PushAttempt.objects.all()
    if since is not None:
        attempts = attempts.filter(started_at__gt=since)
    span = attempts.aggregate(first=Min("started_at"), last=Max("finished_at"))
    sending = (span["last"] - span["first"]).total_seconds()
    connection.close()
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cursors": cursors,
        "workers": workers,
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "exit_codes": codes,
        "acknowledged": acknowledged,
        "seconds": round(seconds, 1),
        # Start and imports of the workers left out: they run all day.
        "seconds_first_to_last_call": round(sending, 1),
        "pushes_per_second": round(acknowledged / sending, 1),
        # On a busy machine this says more: what one push costs the workers, start included.
        "worker_cpu_ms_per_push": round(cpu * 1000 / max(acknowledged, 1), 2),
        "largest_worker_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
