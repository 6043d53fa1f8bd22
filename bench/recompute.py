"""``python -m bench.recompute``: 100,000 counters over 10 M events: rebuild, compare, read.

Also what ``GET /v1/usage/current`` takes over HTTP with that much stored."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from contextlib import ExitStack
from datetime import timedelta

from bench.replay import NOW, fill, tenant_and_metric


def main() -> None:
    """Fill the ledger, rebuild everything, compare everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--counters", type=int, default=100_000)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        from bench import parts

        dsn = parts.start_data(stack)
        import django

        django.setup()
        from bench import scenarios
        from counters.services.recompute import Scope, differences, recompute
        from stripemeter.lib import clock
        from stripemeter.tenancy.services import create_api_key

        tenant, metric = tenant_and_metric("recompute")
        fill(
            tenant.pk,
            metric.pk,
            count=arguments.events,
            customers=arguments.counters,
            salt="recompute",
        )
        scope = Scope(tenant.pk, (metric.pk,), NOW.replace(day=1), NOW + timedelta(days=30))
        started = time.perf_counter()
        recompute(scope)
        rebuilt = time.perf_counter()
        assert differences(scope) == []
        row = {
            "events": arguments.events,
            "counters": arguments.counters,
            "recompute_s": round(rebuilt - started, 2),
            "compare_s": round(time.perf_counter() - rebuilt, 2),
            "load_average": os.getloadavg()[0],
        }
        port = parts.free_port()
        parts._web(stack, port)
        started_parts = parts.Parts(dsn, f"http://127.0.0.1:{port}", port)
        key = create_api_key(tenant_id=tenant.pk, name="b", actor="bench", now=clock.now())[1]
        path = "/v1/usage/current?tenantId=recompute&customerRef=cus_"
        asyncio.run(scenarios._read(started_parts, key, path))  # warm up
        sample = asyncio.run(scenarios._read(started_parts, key, path))
        row |= {
            "current_usage_p50_ms": round(sample.percentile(0.5), 1),
            "current_usage_p95_ms": round(sample.percentile(0.95), 1),
            "refused": sample.refused,
        }
        print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
