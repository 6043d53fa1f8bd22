"""``python -m bench.recompute``: how long 100,000 counters over 10 M events take to rebuild."""

from __future__ import annotations

import argparse
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

        parts.start_data(stack)
        import django

        django.setup()
        from counters.services.recompute import Scope, differences, recompute

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
        print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
