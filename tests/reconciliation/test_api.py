"""The routes of the wire contract, and the cases of the bad-input catalogue."""

import csv
import json
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client

from reconciliation import tasks
from reconciliation.models import Run
from stripemeter.lib import clock
from stripemeter.tenancy.recognition import forget_cached_keys
from tests.builders.tenancy import make_caller
from tests.reconciliation.running import reconcile, settled


@pytest.fixture(autouse=True)
def _no_cached_keys():
    forget_cached_keys()


@pytest.fixture
def told(world, monkeypatch):
    """A world with some usage, pushed and compared; the clock of the routes is its own."""
    monkeypatch.setattr(clock, "now", world.clock)
    monkeypatch.setattr(tasks, "wake", lambda: None)
    monkeypatch.setattr("reconciliation.runs_api.wake", lambda: None)
    world.mapping(subscription_item_id="si_1")
    world.customer("=HYPERLINK(1)")
    world.use(5)
    world.use("2.5", customer="=HYPERLINK(1)")
    world.push()
    settled(world)
    reconcile(world)
    return world


@pytest.fixture
def api(told):
    caller = make_caller(told.acme)
    client = Client(headers=caller.headers)
    client.caller = caller
    return client


def text(response) -> str:
    streaming = getattr(response, "streaming", False)
    body = b"".join(response.streaming_content) if streaming else response.content
    return body.decode()


def test_a_requested_run_can_be_followed(api, told):
    answer = api.post(
        "/v1/reconciliation/run", {"tenantId": "acme"}, content_type="application/json"
    )
    assert answer.status_code == 202
    assert answer.json()["message"] == "Reconciliation job queued"
    location = answer.headers["Location"]
    assert location.endswith(answer.json()["jobId"])
    assert api.get(location).json()["status"] == "queued"
    assert tasks.tick() == 1
    followed = api.get(location).json()
    assert (followed["status"], followed["parity"], followed["drifting"]) == ("done", 2, 0)


def test_another_tenant_cannot_follow_it(api, told):
    run = Run.objects.get()
    stranger = Client(headers=make_caller(told.globex).headers)
    assert stranger.get(f"/v1/reconciliation/runs/{run.pk}").status_code == 404
    assert api.get(f"/v1/reconciliation/runs/{run.pk}").status_code == 200


def test_parallel_requests_make_one_run(api, told):
    def ask(_):
        client = Client(headers=api.caller.headers)
        answer = client.post(
            "/v1/reconciliation/run", {"tenantId": "acme"}, content_type="application/json"
        )
        connection.close()
        return answer.status_code, answer.json()["jobId"]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(20)))
    assert {status for status, _ in answers} == {202}
    assert len({job for _, job in answers}) == 1
    assert tasks.tick() == 1


def test_summary_by_months(api):
    answer = api.get(
        "/v1/reconciliation/summary"
        "?tenantId=acme&periodStart=2026-11&periodEnd=2026-11&decimals=string"
    )
    assert answer.json() == {
        "periodStart": "2026-11",
        "periodEnd": "2026-11",
        "perMetric": [
            {
                "metric": "requests",
                "local": "7.5",
                "stripe": "7.5",
                "drift_abs": "0",
                "drift_pct": "0",
                "items": 2,
            }
        ],
        "overall": {
            "local": "7.5",
            "stripe": "7.5",
            "drift_abs": "0",
            "drift_pct": "0",
            "items": 2,
            "metrics": 1,
        },
    }


def test_summary_as_csv_has_the_contract_header_and_a_total(api):
    answer = api.get(
        "/v1/reconciliation/summary?tenantId=acme&periodStart=2026-10&periodEnd=2026-11&format=csv"
    )
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    lines = text(answer).splitlines()
    assert lines[0] == "metric,local,stripe,drift_abs,drift_pct,items"
    rows = list(csv.reader(lines))
    assert rows[-1][0] == "TOTAL"
    assert sum(Decimal(row[1]) for row in rows[1:-1]) == Decimal(rows[-1][1])


def test_summary_for_one_metric_says_parity(api):
    body = api.get("/v1/reconciliation/summary?tenantId=acme&metric=requests").json()
    assert body["reconciliation"]["status"] == "parity"
    assert body["reconciliation"]["localTotal"] == 7.5
    assert body["reconciliation"]["lastChecked"]
    assert body["counters"]["beforeReplay"] == body["counters"]["afterReplay"]
    assert body["events"]["totalProcessed"] == 2


def test_summary_for_a_metric_never_compared_asks_for_a_run(api):
    body = api.get("/v1/reconciliation/summary?tenantId=acme&metric=other").json()
    assert body["reconciliation"]["status"] == "reconciliation_needed"


def test_a_difference_is_flagged_whatever_epsilon_a_caller_sends(api, told):
    told.sandbox.control(
        "POST",
        "foreign",
        {
            "event_name": "requests",
            "customer": told.customers[told.acme.pk, "c1", "live"],
            "value": "1",
            "timestamp": int(told.now.timestamp()) - 60,
            "world": told.sandbox.journal()[0]["world"],
        },
    )
    refused = api.post(
        "/v1/reconciliation/run",
        {"tenantId": "acme", "epsilon": 1},
        content_type="application/json",
    )
    assert refused.status_code == 400
    reconcile(told)
    body = api.get("/v1/reconciliation/summary?tenantId=acme&metric=requests").json()
    assert body["reconciliation"]["status"] == "drift_critical"
    assert body["reconciliation"]["drift"] == -1
    report = api.get("/v1/reconciliation/2026-11?tenantId=acme").json()
    assert report["summary"]["investigating"] == 1
    assert {each["status"] for each in report["reports"]} == {"ok", "investigate"}
    found = api.get("/v1/reconciliation/findings?state=open").json()["findings"]
    assert [each["cause"] for each in found] == ["foreign_writer"]
    decided = api.patch(
        f"/v1/reconciliation/findings/{found[0]['id']}",
        {"state": "accepted", "note": "test traffic of the vendor", "owner": "ada"},
        content_type="application/json",
    )
    assert decided.status_code == 200
    report = api.get("/v1/reconciliation/2026-11?tenantId=acme").json()
    assert report["summary"]["resolved"] == 1


def test_a_decision_needs_a_reason(api, told):
    from tests.reconciliation.injecting import foreign

    foreign(told, 3)
    reconcile(told)
    [found] = api.get("/v1/reconciliation/findings").json()["findings"]
    refused = api.patch(
        f"/v1/reconciliation/findings/{found['id']}",
        {"state": "explained"},
        content_type="application/json",
    )
    assert refused.status_code == 400


def test_the_period_as_csv(api):
    answer = api.get("/v1/reconciliation/2026-11?tenantId=acme&format=csv")
    lines = text(answer).splitlines()
    assert lines[0] == "subscription_item_id,period,local,stripe,drift_abs,drift_pct,status"
    assert "reconciliation_acme_2026-11.csv" in answer.headers["Content-Disposition"]
    assert len(lines) == 3


def test_the_period_pages(api):
    first = api.get("/v1/reconciliation/2026-11?tenantId=acme&limit=1").json()
    second = api.get(
        "/v1/reconciliation/2026-11",
        {"tenantId": "acme", "limit": "1", "cursor": first["nextCursor"]},
    ).json()
    both = [*first["reports"], *second["reports"]]
    assert sorted(each["customerRef"] for each in both) == ["=HYPERLINK(1)", "c1"]


def test_the_command_says_parity_and_then_names_the_difference(told, capsys):
    from tests.reconciliation.injecting import foreign

    call_command("reconcile", "--tenant", "acme")
    assert "acme: parity  2 cursors: 2 in parity" in capsys.readouterr().out
    foreign(told, 3)
    with pytest.raises(SystemExit) as ended:
        call_command("reconcile", "--tenant", "acme")
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "DIFFERENCE" in said
    assert "foreign_writer: c1 2026-11 -3 units" in said


def test_metrics_show_open_differences(api, told):
    from tests.reconciliation.injecting import foreign

    foreign(told, 3)
    reconcile(told)
    body = api.get("/metrics").content.decode()
    assert (
        'reconciliation_diff_abs{period="2026-11",subscription_item="si_1",tenant="acme"} 3.0'
        in body
    )
    assert 'reconciliation_findings{cause="foreign_writer",severity="critical"} 1.0' in body
    assert "recon_runs_total" in body
    assert "recon_duration_seconds_bucket" in body


SHARED = Path(os.environ.get("STRIPEMETER_SHARED") or Path(__file__).parents[3] / "shared")


def _cases():
    file = SHARED / "bad-inputs.json"
    if not file.exists():
        warnings.warn(f"{file} is absent: the bad-input cases are NOT run", stacklevel=1)
        return [pytest.param(None, marks=pytest.mark.skip(reason="bad-inputs.json is absent"))]
    cases = json.loads(file.read_text("utf-8"))["cases"]
    return [pytest.param(case, id=case["id"]) for case in cases if case["area"] == "reconciliation"]


@pytest.mark.parametrize("case", _cases())
def test_bad_inputs_are_answered_as_published(api, told, case):
    reader = make_caller(told.acme, scopes=["project:read"])
    filled = json.dumps(case)
    for name, value in {
        "{{TENANT_A}}": "acme",
        "{{TENANT_B}}": "globex",
        "{{KEY_A}}": api.caller.plaintext,
        "{{KEY_A_READ}}": reader.plaintext,
    }.items():
        filled = filled.replace(name, value)
    made = json.loads(filled)
    runs_before = Run.objects.count()
    answer = Client(headers=made["headers"]).generic(
        made["method"], made["path"], made["body"], content_type="application/json"
    )
    assert answer.status_code in made["expect_status"], text(answer)
    if "no_write" in made.get("check", []):
        assert Run.objects.count() == runs_before
    if "export_neutral" in made.get("check", []):
        assert '"=' not in text(answer)
