"""``python -m bench.pages``: server time of every operator page and panel on a large tenant.

The budgets are 200 ms for a page and 60 ms for a panel (p95), one request at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
PAGE_MS, PANEL_MS = 200.0, 60.0


def main() -> None:
    """Make the tenant, measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--customers", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=30, help="per page")
    parser.add_argument("--only", nargs="*", help="names of pages")
    parser.add_argument("--runtime", type=Path, help="runtime folder of a demo that runs")
    options = parser.parse_args()
    with ExitStack() as stack:
        rows = measure(_url(stack, options), options)
    report = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "events": options.events,
        "customers": options.customers,
        "requests": options.requests,
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "pages.json").write_text(json.dumps(report, indent=1) + "\n")
    sys.stdout.write(render(rows))


def _url(stack: ExitStack, options: argparse.Namespace) -> str:
    """Where a service with the large tenant answers: an own one, or a demo that runs."""
    import django

    if options.runtime is not None:
        os.environ["STRIPEMETER_RUNTIME_DIR"] = str(options.runtime)
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "stripemeter.settings")
        url = ""
    else:
        from bench import parts

        url = parts.start(stack).url
    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    from stripemeter.tenancy.models import Tenant

    if not Tenant.objects.filter(key="scale").exists():
        call_command("demo_scale", events=options.events, customers=options.customers)
    return url or str(settings.PUBLIC_URL)


def measure(url: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row per page that answers a GET."""
    import httpx
    from django.contrib.auth.models import User
    from django.test import Client

    from stripemeter.tenancy.models import Membership, Tenant
    from tests.browser.pages import NOT_AN_OPERATORS, operator_routes, page_url

    tenant = Tenant.objects.get(key="scale")
    user, _ = User.objects.get_or_create(username="bench", defaults={"is_staff": True})
    Membership.objects.get_or_create(tenant=tenant, user=user, defaults={"role": "owner"})
    signed_in = Client()
    signed_in.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    cookies = {"sessionid": signed_in.cookies["sessionid"].value}
    rows = []
    with httpx.Client(base_url=url, cookies=cookies, trust_env=False, timeout=60) as client:
        for route in operator_routes():
            if route.name in NOT_AN_OPERATORS or (options.only and route.name not in options.only):
                continue
            place = page_url(route, tenant)
            if place is None or client.get(place).status_code != 200:
                continue
            times = sorted(_milliseconds(client, place) for _ in range(options.requests))
            budget = PANEL_MS if route.is_panel else PAGE_MS
            p95 = times[min(len(times) - 1, int(len(times) * 0.95))]
            rows.append(
                {
                    "page": route.name,
                    "kind": "panel" if route.is_panel else "page",
                    "p50_ms": round(times[len(times) // 2], 1),
                    "p95_ms": round(p95, 1),
                    "budget_ms": budget,
                    "within": p95 <= budget,
                }
            )
    return rows


def _milliseconds(client: Any, place: str) -> float:
    began = time.perf_counter()
    client.get(place).raise_for_status()
    return (time.perf_counter() - began) * 1000


def render(rows: list[dict[str, Any]]) -> str:
    """The table as Markdown."""
    lines = ["| page | kind | p50 ms | p95 ms | budget ms | within |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row['page']} | {row['kind']} | {row['p50_ms']} | {row['p95_ms']} "
        f"| {row['budget_ms']:.0f} | {'yes' if row['within'] else 'NO'} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
