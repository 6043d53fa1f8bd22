"""Scenarios, runs and batches over the API: computed by a task, read back in full."""

import json

import pytest

from billing.services.simulations import compute_pending
from counters.models import Counter
from stripemeter.lib import clock
from tests.builders.tenancy import make_caller

pytestmark = pytest.mark.django_db

TIERS = [
    {"upTo": 10_000, "unitPrice": 0.01},
    {"upTo": 50_000, "unitPrice": 0.008},
    {"upTo": None, "unitPrice": 0.005},
]


@pytest.fixture
def acme(client):
    return make_caller("acme")


@pytest.fixture
def globex(client):
    return make_caller("globex")


def scenario(quantity=25_000, *, total=220, name="calls", tiers=None):
    model = {"model": "tiered", "currency": "USD", "tiers": tiers or TIERS}
    return {
        "name": name,
        "model": model,
        "tags": ["price-2"],
        "inputs": {
            "customerId": "c",
            "periodStart": "2026-01-01",
            "periodEnd": "2026-01-31",
            "usageItems": [{"metric": "calls", "quantity": quantity, "priceConfig": model}],
        },
        "expected": {"total": total},
    }


def call(client, caller, method, path, body=None):
    options = {"headers": caller.headers}
    if body is not None:
        options |= {"data": json.dumps(body), "content_type": "application/json"}
    return getattr(client, method)(f"/v1/simulations/{path}", **options)


def make_scenario(client, caller, **fields):
    answer = call(client, caller, "post", "scenarios", scenario(**fields))
    assert answer.status_code == 201, answer.content
    return answer.json()["id"]


def test_a_stored_scenario_is_run_and_read_back_in_full(client, acme):
    made = make_scenario(client, acme)
    queued = call(client, acme, "post", "runs", {"scenarioId": made})
    assert (queued.status_code, queued.json()["status"]) == (202, "pending")
    assert compute_pending(now=clock.now()) == 1
    run = call(client, acme, "get", f"runs/{queued.json()['runId']}").json()
    assert (run["status"], run["passed"], run["error"]) == ("completed", True, None)
    assert run["result"]["total"] in {"220", "220.00"}
    full = call(client, acme, "get", f"scenarios/{made}").json()
    assert full["inputs"]["usageItems"][0]["quantity"] == 25_000
    assert not Counter.objects.exists()


def test_an_inline_scenario_that_misses_its_expectation_says_by_how_much(client, acme):
    body = {"scenario": scenario(total=221)}
    queued = call(client, acme, "post", "runs", body).json()
    compute_pending(now=clock.now())
    run = call(client, acme, "get", f"runs/{queued['runId']}").json()
    assert (run["status"], run["passed"]) == ("completed", False)
    assert "221" in json.dumps(run["comparison"])


def test_a_batch_counts_its_runs(client, acme):
    ids = [make_scenario(client, acme, name=f"s{n}") for n in range(3)]
    queued = call(client, acme, "post", "batch", {"name": "all", "scenarioIds": ids})
    assert (queued.status_code, queued.json()["totalRuns"]) == (202, 3)
    path = f"batch/{queued.json()['batchId']}"
    assert call(client, acme, "get", path).json()["status"] == "pending"
    compute_pending(now=clock.now())
    batch = call(client, acme, "get", path).json()
    assert batch["status"] == "completed"
    assert batch["summary"]["completed"] == 3
    assert batch["summary"]["successRate"] == 100


def test_a_deleted_scenario_leaves_the_list_and_its_runs_stay(client, acme):
    made = make_scenario(client, acme)
    call(client, acme, "post", "runs", {"scenarioId": made})
    assert call(client, acme, "delete", f"scenarios/{made}").status_code == 204
    listed = call(client, acme, "get", "scenarios?active=true").json()
    assert (listed["total"], listed["scenarios"]) == (0, [])
    assert call(client, acme, "get", "runs").json()["total"] == 1


def test_a_change_is_checked_like_a_new_scenario(client, acme):
    made = make_scenario(client, acme)
    changed = call(client, acme, "put", f"scenarios/{made}", {"description": "now"})
    assert changed.status_code == 200
    broken = call(client, acme, "put", f"scenarios/{made}", {"inputs": {}})
    assert broken.status_code == 400


def test_what_cannot_be_priced_is_refused_with_the_place(client, acme):
    unsorted = [{"upTo": 500, "unitPrice": 1}, {"upTo": 100, "unitPrice": 2}]
    for body in (
        {},
        {"scenarioId": "00000000-0000-7000-8000-000000000000", "scenario": {}},
        {"scenario": scenario(quantity=-1)},
        {"scenario": scenario(name="n" * 256)},
        {"scenario": scenario(tiers=unsorted)},
    ):
        answer = call(client, acme, "post", "runs", body)
        assert answer.status_code == 400, body
    assert call(client, acme, "get", "runs").json()["total"] == 0


def test_another_tenant_sees_nothing_whatever_header_it_sends(client, acme, globex):
    made = make_scenario(client, acme)
    run = call(client, acme, "post", "runs", {"scenarioId": made}).json()["runId"]
    for path in (f"scenarios/{made}", f"runs/{run}"):
        headers = {**globex.headers, "X-Tenant-ID": "acme"}
        assert client.get(f"/v1/simulations/{path}", headers=headers).status_code == 404
    foreign = call(client, globex, "post", "runs", {"scenarioId": made})
    assert foreign.status_code == 404
    batch = {"name": "b", "scenarioIds": [made]}
    assert call(client, globex, "post", "batch", batch).status_code == 400


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"tags": {}}, 400),
        ({"tags": [None]}, 400),
        ({"tags": [5]}, 400),
        ({"tags": ["t" * 101]}, 400),
        ({"tags": ["t"] * 51}, 400),
        ({"version": "v" * 51}, 400),
        ({"version": int("9" * 51)}, 400),
        ({"description": "d" * 256}, 400),
        ({"description": None, "version": None, "tags": None}, 201),
        ({"version": 2, "tags": []}, 201),
    ],
)
def test_what_describes_a_scenario_is_text_of_a_bounded_length(client, acme, fields, status):
    made = call(client, acme, "post", "scenarios", {**scenario(), **fields})
    assert made.status_code == status, made.content
    run = call(client, acme, "post", "runs", {"scenario": {**scenario(), **fields}})
    assert run.status_code == (202 if status == 201 else 400), run.content
