"""``python -m bench.replay``: how long a replay takes to take late events in.

Events are put into the ledger behind the fold's back, so that their counters differ; the time is
that of the apply (compare, lock, compare again, rebuild). Own throw-away database.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

NOW = datetime(2026, 11, 20, tzinfo=UTC)
FILL = """
INSERT INTO ledger_event (tenant_id, batch_id, ts, recorded_at, key, fingerprint, metric_id,
    customer_ref, quantity, source)
SELECT %(tenant)s, 0, %(start)s::timestamptz + (i %% 1500000) * interval '1 second', %(start)s,
    md5(%(salt)s || i)::uuid, md5(%(salt)s || i)::uuid, %(metric)s,
    'cus_' || (i %% %(customers)s), 1 + i %% 7, 'http'
FROM generate_series(1, %(count)s) AS i
"""


def fill(tenant_id: int, metric_id: int, *, count: int, customers: int, salt: str) -> None:
    """``count`` events of this month, over so many customers, in no batch that is pending."""
    from django.db import connection

    parameters: dict[str, Any] = {
        "tenant": tenant_id,
        "metric": metric_id,
        "count": count,
        "customers": customers,
        "salt": salt,
        "start": NOW.replace(day=1),
    }
    with connection.cursor() as cursor:
        cursor.execute(FILL, parameters)
    # As autovacuum does within seconds; the application's role may not.
    with psycopg.connect(os.environ["DATABASE_OWNER_URL"], autocommit=True) as owner:
        owner.execute("VACUUM ANALYZE ledger_event")


def tenant_and_metric(name: str) -> tuple[Any, Any]:
    """A tenant of its own with one metric."""
    from ledger.models import Metric
    from stripemeter.tenancy.models import Tenant

    tenant = Tenant.objects.create(key=name, name=name)
    return tenant, Metric.objects.create(tenant=tenant, name="api_calls", configured=True)


def main() -> None:
    """Measure 10,000 and 1,000,000 late events."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 1_000_000])
    arguments = parser.parse_args()
    with ExitStack() as stack:
        from bench import parts

        parts.start_data(stack)
        import django

        django.setup()
        from counters.services import replay

        rows = []
        for count in arguments.counts:
            tenant, metric = tenant_and_metric(f"late-{count}")
            fill(tenant.pk, metric.pk, count=count, customers=100, salt=f"late{count}")
            window = replay.Window(tenant.pk, (), NOW - timedelta(days=30), NOW)
            print(f"{count} events filled", flush=True)
            started = time.perf_counter()
            report = replay.apply_replay(window, actor="bench", now=NOW)
            seconds = time.perf_counter() - started
            again = time.perf_counter()
            assert replay.apply_replay(window, actor="bench", now=NOW).counters_changed == 0
            rows.append(
                {
                    "late_events": count,
                    "counters": report.counters_changed,
                    "apply_s": round(seconds, 3),
                    "compare_s": round(time.perf_counter() - again, 3),
                    "load_average": os.getloadavg()[0],
                }
            )
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
