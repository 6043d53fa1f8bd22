"""``python -m bench.whatif``: the past of 20,000 customers at other prices, from the database.

Fills an own database (three mapped metrics, tiers, as many months as give the customer-periods
asked for), asks `billing.services.whatif` as the API does and computes the answer as the worker
does. The goal is 100,000 customer-periods within 30 s. Every run is checked: today's prices must
give what the projection says of ten customers' periods.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench import parts

RESULTS = Path(__file__).resolve().parent / "results"
CUSTOMERS_MAX = 20_000
PRICES: dict[str, dict[str, Any]] = {
    "calls": {
        "model": "graduated",
        "currency": "USD",
        "tiers": [
            {"upTo": 1_000, "unitPrice": "0.01", "flatPrice": 5},
            {"upTo": 10_000, "unitPrice": "0.008", "flatPrice": 0},
            {"upTo": None, "unitPrice": "0.005", "flatPrice": 0},
        ],
    },
    "storage": {
        "model": "volume",
        "currency": "USD",
        "tiers": [{"upTo": 100, "unitPrice": "0.5"}, {"upTo": None, "unitPrice": "0.3"}],
    },
    "seats": {"model": "flat", "currency": "USD", "unitPrice": 12},
}
QUESTION = {"prices": {"calls": {"changePercent": 10}, "storage": {"changePercent": -5}}}
_COUNTERS = """
INSERT INTO counters_counter (tenant_id, metric_id, customer_ref, period_start, period_end, sum,
    event_count, max, min, unique_count, adjusted, revision)
SELECT %(tenant)s, m, 'cus_' || c, start AT TIME ZONE 'UTC',
       (start + interval '1 month') AT TIME ZONE 'UTC',
       (c * 7919 + m * 104729 + p * 1299709) %% 20000, 1, 1, 1, 0, 0, 1
FROM generate_series(1, %(customers)s) c, unnest(%(metrics)s::int[]) m,
     generate_series(1, %(periods)s) p, LATERAL (
         SELECT date_trunc('month', %(now)s::timestamptz AT TIME ZONE 'UTC')
                - p * interval '1 month' AS start) months
"""


def main() -> None:
    """Fill, ask, compute, check, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customer-periods", type=int, default=100_000)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        parts.start_data(stack)
        import django

        django.setup()
        customers = min(CUSTOMERS_MAX, arguments.customer_periods)
        tenant_id, since = _fill(customers, arguments.customer_periods // customers)
        row = _ask(tenant_id, since)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "whatif.json").write_text(json.dumps(row, indent=1) + "\n")
    for name, value in row.items():
        print(f"{name:28} {value}")


def _fill(customers: int, periods: int) -> tuple[int, datetime]:
    from django.db import connection

    from billing.models import PriceMapping
    from ledger.services.registry import metric_ids
    from stripemeter.lib import clock
    from stripemeter.lib.periods import utc_month
    from stripemeter.tenancy.services import create_tenant

    now = clock.now()
    tenant = create_tenant(key="bench", name="Bench", actor="bench", now=now)
    ids = metric_ids(tenant.pk, set(PRICES))
    for number, (name, price) in enumerate(PRICES.items()):
        PriceMapping.objects.create(
            id=f"00000000-0000-7000-8000-{number:012d}",
            tenant=tenant,
            metric_id=ids[name],
            aggregation="sum",
            stripe_account="default",
            price_id=f"price_{name}",
            local_price=price,
            created_at=now,
            updated_at=now,
        )
    with connection.cursor() as cursor:
        cursor.execute(
            _COUNTERS,
            {
                "tenant": tenant.pk,
                "metrics": list(ids.values()),
                "customers": customers,
                "periods": periods,
                "now": now,
            },
        )
        cursor.execute("ANALYZE")
    since = utc_month(now).start
    for _ in range(periods):
        since = utc_month(since - timedelta(days=1)).start
    return tenant.pk, since


def _ask(tenant_id: int, since: datetime) -> dict[str, Any]:
    from django.db import connection

    from billing.services import whatif
    from billing.services.mappings import Actor
    from stripemeter.lib import clock

    actor = Actor(tenant_id, "bench", clock.now())
    connection.ensure_connection()
    raw: Any = connection.connection
    backend_before, wall, cpu = _cpu_of(raw.info.backend_pid), time.perf_counter(), _own_cpu()
    document = {**QUESTION, "from": since.date().isoformat()}
    run = whatif.start(actor=actor, document=document, clock=clock.now)
    whatif.compute_pending(clock=clock.now)
    seconds, own = time.perf_counter() - wall, _own_cpu() - cpu
    backend = _cpu_of(raw.info.backend_pid) - backend_before
    run.refresh_from_db()
    result = whatif.result_of(run)
    assert result is not None, run.error
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "customer_periods": result["customerPeriods"],
        "customers_stored": run.customers.count(),
        "seconds": round(seconds, 1),
        "cpu_seconds_python": round(own, 1),
        "cpu_seconds_postgres": round(backend, 1),
        "before": str(result["revenue"]["before"]),
        "after": str(result["revenue"]["after"]),
        "agrees_with_projection": _agrees(tenant_id, run),
    }


def _agrees(tenant_id: int, run: Any) -> bool:
    """Whether ten customers' periods cost today what the projection says."""
    from billing.projection import project
    from stripemeter.lib.periods import utc_month

    rows = list(run.customers.order_by("rank")[:10])
    for row in rows:
        total, month = Decimal(0), utc_month(run.since)
        while month.start < run.until:
            found = project(tenant_id=tenant_id, customer_ref=row.customer_ref, period=month)
            total += found.subtotal("USD")
            month = utc_month(month.end)
        if int(total.scaleb(2)) != row.before_minor:
            return False
    return bool(rows)


def _own_cpu() -> float:
    used = os.times()
    return used.user + used.system


def _cpu_of(pid: int) -> float:
    """Seconds of processor time of another process (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
