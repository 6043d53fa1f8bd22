"""Alerts, webhooks, simulator and what-if in a browser: no violation, no sideways scrolling."""

import os
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth import get_user_model

from billing.models import Delivery, WhatIfRun
from billing.services import alert_rules, endpoints, whatif
from billing.services.alert_runs import evaluate_alerts
from billing.services.mappings import Actor, create_mapping
from stripemeter.lib import clock
from stripemeter.tenancy.models import Membership
from tests.builders.ledger import fold, make_event, store
from tests.builders.tenancy import make_tenant
from tests.support.processes import HttpProcess

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PASSWORD = "correct horse battery staple"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]
TIERS = [
    {"upTo": 100_000, "unitPrice": "0"},
    {"upTo": 1_000_000, "unitPrice": "0.0002", "flatPrice": "25"},
    {"upTo": None, "unitPrice": "0.00012"},
]


def make_office() -> list[str]:
    """A tenant with rules that were met, an endpoint with a log and a what-if; its pages."""
    now = clock.now()
    tenant = make_tenant("acme")
    make_tenant("globex")
    user = get_user_model().objects.create_user("operator", password=PASSWORD, is_staff=True)
    Membership.objects.create(tenant=tenant, user=user, role="owner")
    actor = Actor(tenant.pk, "user:operator", now)
    price = {"model": "graduated", "currency": "USD", "tiers": TIERS}
    values = {"aggregation": "sum", "stripe_account": "default", "price_id": "price_1",
              "local_price": price}  # fmt: skip
    create_mapping(actor=actor, metric="api_calls", values=values)
    for back in (0, 35, 65):
        then = now - timedelta(days=back)
        for place in range(12):
            event = make_event(90_000 * (place + 1) ** 2 // (back + 20), ts=then,
                               customer=f"cust_{place:02}_of_a_longer_name",
                               idempotencyKey=str(uuid4()))  # fmt: skip
            store(tenant, event, now=then)
        fold(then)
    for rule in (
        {"type": "threshold", "threshold": 100_000, "action": "hard_cap"},
        {"type": "budget", "threshold": 20, "action": "email", "config": {"to": "a@b.example"}},
    ):
        rule_values: dict[str, Any] = {"config": {}, **rule}
        metric = "api_calls" if rule["type"] == "threshold" else None
        alert_rules.create_rule(actor=actor, metric=metric, values=rule_values)
    endpoint, _ = endpoints.create_endpoint(
        actor=actor, url="https://hooks.example.com/stripemeter", event_types=["alert.*"]
    )
    evaluate_alerts(now=now)
    endpoints.send_test(actor=actor, endpoint_id=endpoint.pk)
    document = {"prices": {"api_calls": {"changePercent": 12}}, "name": "Calls 12 % dearer"}
    whatif.start(actor=actor, document=document, clock=clock.now)
    return [
        "/admin/", "/admin/alerts/", "/admin/alerts/rules", "/admin/alerts/rules/new",
        "/admin/webhooks/", f"/admin/webhooks/{endpoint.pk}",
        f"/admin/webhooks/messages/{Delivery.objects.filter(channel='webhook')[0].pk}",
        "/admin/simulator/?customer=cust_11_of_a_longer_name", "/admin/what-if/",
        f"/admin/what-if/{WhatIfRun.objects.get().pk}",
    ]  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_the_pages_keep_their_policy_and_fit_a_phone(web: HttpProcess) -> None:
    from playwright.sync_api import sync_playwright

    pages, wrong = make_office(), []
    shots = os.environ.get("SHOTS")
    with sync_playwright() as starter:
        browser = starter.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width, scheme in ((1280, "light"), (360, "dark")):
            context = browser.new_context(
                viewport={"width": width, "height": 900}, color_scheme=scheme
            )
            page = context.new_page()
            page.set_default_timeout(240_000)  # ends a hang; a busy machine is none
            page.on(
                "console",
                lambda said: (
                    wrong.append(f"{said.text} {said.location['url']}")
                    if said.type == "error"
                    else None
                ),
            )
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.goto(f"{web.url}/admin/login/?next=/admin/alerts/")
            page.fill("input[name=username]", "operator")
            page.fill("input[name=password]", PASSWORD)
            page.click("button[type=submit], input[type=submit]")
            page.wait_for_url(f"{web.url}/admin/alerts/")
            for number, path in enumerate(pages):
                page.goto(web.url + path, wait_until="networkidle")
                sideways = page.evaluate(
                    "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                )
                if sideways > 0:
                    wrong.append(f"{path} scrolls sideways by {sideways} at {width}")
                if shots:
                    Path(shots).mkdir(exist_ok=True)
                    page.screenshot(path=f"{shots}/{number:02}-{width}.png", full_page=True)
            context.close()
        browser.close()
    assert wrong == []
