"""What an operator would have done by hand before the screenshots: something on every page."""

from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile
from django.template.loader import render_to_string
from django.test import Client
from django.urls import reverse

from billing.models import AlertState, Delivery, WhatIfRun
from ledger.models import Operation
from reconciliation.models import Export, Finding
from stripemeter.lib import clock
from stripemeter.runtime.processes import wait_until

#: A row that is fine, one that is not, and one in a month of its own.
_ROWS = """metric,customerRef,quantity,ts,idempotencyKey
api_calls,cust_backfilled,12,{month}-02T10:00:00Z,shots-1
api_calls,cust_backfilled,many,{month}-02T11:00:00Z,shots-2
api_calls,cust_backfilled,30,{month}-02T12:00:00Z,shots-3
"""


def use_the_pages(client: Client, capped: str) -> None:
    """Sends the forms of the operators' pages; ``capped`` is a customer who gets a hard cap."""
    month = clock.now().strftime("%Y-%m")

    def send(name: str, values: dict[str, Any]) -> None:
        answer = client.post(reverse(f"ops:{name}"), values)
        if answer.status_code not in {200, 302}:
            raise SystemExit(f"{name} answered {answer.status_code} to {values}")

    rule = {"metric": "api_calls", "enabled": "on", "type": "threshold"}
    send("alert-rule-new", {**rule, "threshold": "20000", "action": "email"})
    send("alert-rule-new", {**rule, "threshold": "10", "action": "hard_cap", "customerRef": capped})
    send("webhook-new", {"url": "https://hooks.example.com/stripemeter", "types": ["alert.*"]})
    send("export-new", {"period": month, "format": "csv"})
    send("what-if", {"name": "API calls 10 % dearer", "percent-api_calls": "10"})
    rows = SimpleUploadedFile("usage.csv", _ROWS.format(month=month).encode())
    send("backfill", {"file": rows, "periodStart": f"{month}-01", "reason": "screenshots"})
    finding = Finding.objects.filter(closed_at__isnull=True, state="open").first()
    if finding is not None:
        send("plan-new", {"finding": str(finding.pk), "note": "Lost on its way to Stripe"})
    client.post(
        reverse("ops:simulator"),
        {"quantity-api_calls": "250000", "name": "A large customer", "save": "1"},
    )
    wait_until(_is_settled, timeout_s=90, step_s=1)


def _is_settled() -> bool:
    """Whether the workers did what was asked, and the rules spoke."""
    waiting = (
        Export.objects.filter(status__in=["pending", "running"]),
        WhatIfRun.objects.filter(status__in=["pending", "running"]),
        Operation.objects.filter(status__in=["pending", "running"]),
    )
    spoken = AlertState.objects.exists() and Delivery.objects.exclude(status="pending").exists()
    return spoken and not any(rows.exists() for rows in waiting)


def further_addresses(ref: str) -> dict[str, str]:
    """Pages in a state of their own, by name; ``ref`` is a customer with usage."""
    return {
        "login": "/admin/login/",
        "docs": "/docs",
        "error-404": "/no-such-page",
        "problem": reverse("ops:customer"),
        "search-hits": f"{reverse('ops:search')}?find={ref[:6]}",
        "search-nothing": f"{reverse('ops:search')}?find=nobody",
        "events-empty": f"{reverse('ops:events')}?customerRef=nobody",
        "periods-customer": f"{reverse('ops:periods')}?ref={ref}",
        "periods-change": f"{reverse('ops:periods')}?look=set&anchor=2026-01-15T00:00"
        "&interval=month&count=1&zone=Europe/Berlin",
        "replay-report": f"{reverse('ops:replay')}?since=2026-01-01T00:00",
        "audit-verified": f"{reverse('ops:audit')}?verify=1",
        "invitation-used": reverse("ops:invitation", args=["x", "x"]),
    }


def made_pages(client: Client) -> dict[str, str]:
    """HTML of pages that no address shows for the asking, by name."""
    said = {"request_id": "req_01a2045a41d2724998b8cb6fb8ddc4a9"}
    errors = {"400": {}, "403": {}, "403_csrf": {}, "500": said, "ops/locked": {}}
    found = {
        f"error-{name.removeprefix('ops/')}": render_to_string(f"{name}.html", values)
        for name, values in errors.items()
    }
    month = clock.now().strftime("%Y-%m")
    wrong = {
        "metric": "api_calls", "aggregation": "sum", "pushSemantics": "increment",
        "stripeAccount": "default", "unitFactor": "none", "effectiveFrom": "tomorrow",
    }  # fmt: skip
    usage = {"quantity-api_calls": "250000", "quantity-seats": "12"}
    rows = SimpleUploadedFile("usage.csv", _ROWS.format(month=month).encode())
    forms = {
        "mapping-wrong": ("mapping-new", wrong),
        "simulator-invoice": ("simulator", usage),
        "backfill-check": (
            "backfill-check", {"file": rows, "periodStart": f"{month}-01", "reason": "a look"}
        ),
    }  # fmt: skip
    for name, (route, values) in forms.items():
        found[name] = client.post(reverse(f"ops:{route}"), values).content.decode()
    return found
