"""What-if over the tenant's own history: today's prices give the projection's numbers."""

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from billing.models import WhatIfRun
from billing.projection import project
from billing.services import whatif
from billing.services.mappings import Actor, create_mapping
from stripemeter.lib.periods import utc_month
from stripemeter.tenancy.recognition import forget_cached_keys
from tests.builders.ledger import NOW, fold, make_event, store
from tests.builders.tenancy import Caller, make_caller

pytestmark = pytest.mark.django_db

TIERS = [
    {"upTo": 1000, "unitPrice": "0.003", "flatPrice": "1"},
    {"upTo": None, "unitPrice": "0.0017"},
]
RANGE = {"from": "2026-08-01", "to": "2026-11-01"}


@pytest.fixture
def acme() -> Caller:
    forget_cached_keys()
    make_caller("globex")
    acme = make_caller("acme")
    for metric, price, factor in (
        ("api_calls", {"model": "graduated", "currency": "USD", "tiers": TIERS}, 1),
        ("bytes", {"model": "flat", "currency": "USD", "unitPrice": "0.07"}, 1000),
    ):
        values = {
            "aggregation": "sum", "stripe_account": "default", "price_id": f"price_{metric[:3]}",
            "local_price": price, "unit_factor": factor, "value_decimals": 0,
        }  # fmt: skip
        create_mapping(actor=Actor(acme.tenant.pk, "t", NOW), metric=metric, values=values)
    for back, customer, calls, count in (
        (90, "a", 400, 12_345), (60, "a", 990, 999), (30, "a", 5_000, 1_001),
        (30, "b", 3, 70_000), (60, "c", 2_000, 0),
    ):  # fmt: skip
        then = NOW - timedelta(days=back)
        for metric, quantity in (("api_calls", calls), ("bytes", count)):
            event = make_event(quantity, metric=metric, customer=customer, ts=then,
                               idempotencyKey=str(uuid4()))  # fmt: skip
            store(acme.tenant, event, now=then)
            fold(then)
    return acme


def ask(caller: Caller, body: dict[str, Any]) -> Any:
    return Client().post(
        "/v1/simulations/whatif", json.dumps(body), "application/json", headers=caller.headers
    )


def projected(acme: Caller) -> Decimal:
    total = Decimal(0)
    for customer in "abc":
        for back in (90, 60, 30):
            period = utc_month(NOW - timedelta(days=back))
            found = project(tenant_id=acme.tenant.pk, customer_ref=customer, period=period)
            total += found.subtotal("USD")
    return total


def test_todays_prices_rate_the_past_to_what_the_projection_says(acme: Caller) -> None:
    answer = ask(acme, {**RANGE, "prices": {"api_calls": {"changePercent": 0}}})
    assert answer.status_code == 200, answer.content
    revenue = answer.json()["result"]["revenue"]
    assert Decimal(str(revenue["before"])) == Decimal(str(revenue["after"])) == projected(acme)
    assert answer.json()["result"]["unchanged"] == 3


def test_a_price_change_names_winners_losers_and_cliffs(acme: Caller) -> None:
    price = {
        "model": "graduated", "currency": "USD",
        "tiers": [{"upTo": 1000, "unitPrice": "0.002"},
                  {"upTo": None, "unitPrice": "0.002", "flatPrice": "9"}],
    }  # fmt: skip
    body = ask(acme, {**RANGE, "name": "cliff", "prices": {"api_calls": price}}).json()
    assert (body["status"], body["progress"]) == ("completed", {"done": 3, "total": 3})
    assert [row["customer"] for row in body["losers"]] == ["c", "a"]
    assert [row["customer"] for row in body["winners"]] == ["b"]
    assert [(c["customer"], c["quantity"]) for c in body["result"]["cliffs"]] == [("a", 990)]
    page = (
        Client()
        .get(f"/v1/simulations/whatif/{body['id']}/customers?limit=2", headers=acme.headers)
        .json()
    )
    assert (page["total"], page["nextOffset"], len(page["customers"])) == (3, 2, 2)
    table = Client().get(
        f"/v1/simulations/whatif/{body['id']}/customers?format=csv", headers=acme.headers
    )
    text = b"".join(table.streaming_content).decode()
    assert text.splitlines()[0] == "customer,periods,currency,before,after,delta,percent"
    assert len(text.splitlines()) == 4


def test_a_large_question_waits_for_a_worker(acme: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whatif, "INLINE_COUNTERS_MAX", 2)
    answer = ask(acme, {**RANGE, "prices": {"bytes": {"changePercent": 50}}})
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    assert whatif.compute_pending(clock=lambda: NOW) == 1
    path = f"/v1/simulations/whatif/{answer.json()['id']}"
    assert Client().get(path, headers=acme.headers).json()["status"] == "completed"
    globex = make_caller("globex")
    assert Client().get(path, headers=globex.headers).status_code == 404
    assert Client().get(f"{path}/customers", headers=globex.headers).status_code == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"prices": {}},
        {"prices": {"nothing": {"changePercent": 1}}},
        {"prices": {"api_calls": {"changePercent": "lots"}}},
        {"prices": {"api_calls": {"changePercent": 1, "model": "flat"}}},
        {"prices": {"api_calls": {"model": "flat", "currency": "EUR", "unitPrice": 1}}},
        {"prices": {"api_calls": {"changePercent": 1}}, "from": "2026-11-01", "to": "2026-10-01"},
        {"prices": {"api_calls": {"changePercent": 1}}, "from": "yesterday"},
        {"prices": {"api_calls": {"changePercent": 1}}, "fixedFee": -1},
        {"prices": {"api_calls": {"changePercent": 1}}, "oops": 1},
    ],
)
def test_what_cannot_be_asked_is_refused(acme: Caller, wrong: dict[str, Any]) -> None:
    assert ask(acme, wrong).status_code == 400
    assert not WhatIfRun.objects.exists()
