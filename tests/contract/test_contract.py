"""The wire as older callers know it, route by route (docs/compatibility.md says what changed).

Every test talks to a live server and names the fields a caller of the predecessor reads.
"""

import re
import subprocess
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from json import loads
from typing import Any

import httpx
import pytest

from ledger.models import Event
from tests.contract.conftest import Live
from tests.support.environment import ROOT

pytestmark = pytest.mark.xdist_group("contract")
NOW = datetime.now(UTC).replace(microsecond=0)
MONTH = NOW.strftime("%Y-%m")
#: Five minutes ago, but in this month: totals of "the current period" are asked for.
EARLIER = max(NOW - timedelta(minutes=5), NOW.replace(day=1, hour=0, minute=0, second=0))
PROBLEM = {"type", "title", "status", "code", "detail", "requestId", "error", "message"}


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Api:
    """Calls with the key of acme; answers keep every digit."""

    def __init__(self, live: Live) -> None:
        self.client = httpx.Client(base_url=live.url, headers=live.headers, timeout=120)

    def __call__(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        answer = self.client.request(method, path, json=body, **options)
        answer.exact = loads(answer.text, parse_float=Decimal) if _is_json(answer) else None
        return answer

    def ok(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        answer = self(method, path, body)
        assert answer.status_code == status, (method, path, answer.text)
        return answer.exact


def _is_json(answer: httpx.Response) -> bool:
    return "json" in answer.headers.get("Content-Type", "") and bool(answer.content)


@pytest.fixture(scope="module")
def api(live: Live) -> Iterator[Api]:
    api = Api(live)
    yield api
    api.client.close()


def get(live: Live, path: str, **options: Any) -> httpx.Response:
    """Without the key of acme."""
    return httpx.get(live.url + path, timeout=120, **options)


def event(customer: str, quantity: Any = 1, **more: Any) -> dict[str, Any]:
    return {
        "tenantId": "acme", "metric": "api_calls", "customerRef": customer, "quantity": quantity,
        "ts": iso(EARLIER), **more,
    }  # fmt: skip


def refused(answer: Any, status: int, code: str | None = None) -> Any:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert set(answer.json()) >= PROBLEM
    if code:
        assert answer.json()["code"] == code
    return answer.json()


def fields(row: Any, *names: str) -> None:
    assert set(names) - set(row) == set(), row


# --- 1.1 rules common to all ---


def test_a_key_is_taken_from_each_documented_header(live: Live) -> None:
    key = live.caller.plaintext
    for headers in (
        {"Authorization": f"Bearer {key}"}, {"Authorization": key}, {"X-API-Key": key},
        {"Authorization": key, "X-API-Key": "sm_live_wrong"},
    ):  # fmt: skip
        answer = get(live, "/v1/mappings?tenantId=acme", headers=headers)
        assert answer.status_code == 200, headers
    for headers in ({}, {"X-API-Key": "no"}, {"Authorization": "sm_live_wrong", "X-API-Key": key}):
        refused(get(live, "/v1/mappings?tenantId=acme", headers=headers), 401)


def test_refusals_repeat_error_and_message_and_name_the_request(api: Api) -> None:
    body = refused(api("GET", "/v1/nowhere"), 404, "route_not_found")
    assert body["message"] == "Route GET:/v1/nowhere not found"
    assert body["error"] == "Not found"
    refused(api("GET", "/v1/usage/current?tenantId=globex&customerRef=c"), 403, "tenant_mismatch")
    refused(api("GET", "/v1/usage/current?tenantId=acme"), 400)
    answer = api("GET", "/v1/mappings?tenantId=acme", headers={"X-Request-Id": "mine-1"})
    assert answer.headers["X-Request-Id"] == "mine-1"


# --- 1.2 health and metrics ---


def test_health_and_metrics(live: Live, api: Api) -> None:
    anonymous = get(live, "/health").json()
    assert anonymous["status"] == "ok"
    assert "timestamp" in anonymous
    assert get(live, "/health/live").json() == {"status": "alive"}
    ready = get(live, "/health/ready")
    assert ready.status_code == 503  # no worker runs beside this server
    body = ready.json()
    assert body["status"] == "degraded"
    fields(body["checks"], "database", "redis", "stripe", "workers")
    fields(body["metrics"], "eventsPerSecond", "writerLag", "reconciliationDiff")


def test_the_documented_grep_of_the_metrics_finds_what_was_ingested(live: Live, api: Api) -> None:
    api.ok("POST", "/v1/events/ingest", {"events": [event("metrics", metric="grep_me")]})
    shown = subprocess.run(
        ["sh", "-c", f"curl -s {live.url}/metrics | grep '^events_ingested_total'"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert re.search(r'events_ingested_total\{meter="[^"]+"\} [1-9]', shown), shown
    everything = get(live, "/metrics").text
    for name in (
        "http_requests_total{", "http_request_duration_seconds_bucket{", "ingest_latency_ms_bucket",
    ):  # fmt: skip
        assert name in everything


# --- 1.3 events ---


def test_ingest_answers_per_event_in_input_order(api: Api) -> None:
    ahead = iso(NOW + timedelta(hours=2))
    body = api.ok("POST", "/v1/events/ingest", {"events": [
        event("i1", idempotencyKey="i-1"), event("i1", ts=ahead, idempotencyKey="i-2"),
        event("i1", idempotencyKey="i-1"), event("i1", 9, idempotencyKey="i-1"),
    ]})  # fmt: skip
    fields(body, "accepted", "duplicates", "requestId", "results", "errors")
    assert (body["accepted"], body["duplicates"], body["conflicts"]) == (1, 1, 1)
    assert [row["status"] for row in body["results"]] == [
        "accepted", "error", "duplicate", "conflict",
    ]  # fmt: skip
    assert body["errors"][0] == {"index": 1, "error": "Event timestamp too far in the future"}


def test_keys_come_from_the_event_then_the_header_then_the_content(api: Api) -> None:
    two = {"events": [event("k1"), event("k1", 2, idempotencyKey="own")]}
    answer = api("POST", "/v1/events/ingest", two, headers={"Idempotency-Key": "head"})
    assert [row["idempotencyKey"] for row in answer.json()["results"]] == ["head:0", "own"]
    same = event("k2", 5)
    first = api.ok("POST", "/v1/events/ingest", {"events": [same]})
    again = api.ok("POST", "/v1/events/ingest", {"events": [same]})
    assert (first["accepted"], again["duplicates"]) == (1, 1)
    assert first["results"][0]["idempotencyKey"].startswith("evt_")


def test_a_malformed_event_refuses_the_batch_and_is_named_by_its_index(api: Api) -> None:
    body = refused(api("POST", "/v1/events/ingest", {"events": [event("r"), event("r", -1)]}), 400)
    assert body["errors"][0]["index"] == 1
    assert "error" in body["errors"][0]
    refused(api("POST", "/v1/events/ingest", {"events": []}), 400)
    assert not Event.objects.filter(customer_ref="r").exists()


def test_the_event_list_and_exact_text(api: Api) -> None:
    api.ok("POST", "/v1/events/ingest", {"events": [
        event("l1", "12345678.901234", idempotencyKey="l-1", meta={"a": 1}, source="etl"),
    ]})  # fmt: skip
    page = api.ok("GET", "/v1/events?tenantId=acme&customerRef=l1&sort=ts&sortDir=asc&limit=25")
    (row,) = page["events"]
    assert page["total"] == 1
    fields(row, "id", "tenantId", "metric", "customerRef", "quantity", "timestamp", "meta")
    assert (row["id"], row["quantity"], row["source"]) == ("l-1", Decimal("12345678.901234"), "etl")
    assert loads(row["meta"]) == {"a": 1}
    text = api.ok("GET", "/v1/events?tenantId=acme&customerRef=l1&decimals=string")
    assert text["events"][0]["quantity"] == "12345678.901234"
    refused(api("GET", "/v1/events?tenantId=acme&sort=quantity"), 400)


def test_backfill_is_accepted_listed_and_found(api: Api) -> None:
    made = api.ok("POST", "/v1/events/backfill", {
        "tenantId": "acme", "metric": "api_calls", "periodStart": f"{MONTH}-01", "reason": "drill",
        "csvData": f"customerRef,quantity,ts\nb1,3,{iso(NOW)}\n",
    })  # fmt: skip
    assert made["status"] == "pending"
    assert made["message"] == "Backfill operation queued successfully"
    found = api.ok("GET", f"/v1/events/backfill/{made['operationId']}")
    fields(
        found, "id", "tenantId", "metric", "customerRef", "periodStart", "periodEnd", "status",
        "reason", "actor", "totalEvents", "processedEvents", "failedEvents", "duplicateEvents",
        "sourceType", "errorMessage", "startedAt", "completedAt", "createdAt", "updatedAt",
    )  # fmt: skip
    listed = api.ok("GET", "/v1/events/backfill?tenantId=acme&status=pending")
    assert made["operationId"] in [row["id"] for row in listed["operations"]]
    refused(api("GET", f"/v1/events/backfill/{uuid.uuid4()}"), 404)
    refused(api("POST", "/v1/events/backfill", {
        "tenantId": "acme", "metric": "m", "periodStart": "2026-01-01", "reason": "r",
        "sourceUrl": "s3://bucket/file",
    }), 400)  # fmt: skip


# --- 1.4 usage ---


@pytest.mark.parametrize("as_text", [False, True])
def test_usage_now_then_and_projected(api: Api, as_text: bool) -> None:
    customer, option = f"u{as_text:d}", "&decimals=string" if as_text else ""
    api.ok("POST", "/v1/events/ingest", {"events": [
        event(customer, "0.1", idempotencyKey=f"{customer}-1"),
        event(customer, "0.2", idempotencyKey=f"{customer}-2"),
    ]})  # fmt: skip
    expected: Any = "0.3" if as_text else Decimal("0.3")
    query = f"tenantId=acme&customerRef={customer}{option}"
    now = api.ok("GET", f"/v1/usage/current?{query}")
    assert now["customerRef"] == customer
    assert now["period"]["start"] == f"{MONTH}-01"
    assert isinstance(now["alerts"], list)
    (metric,) = now["metrics"]
    assert (metric["name"], metric["current"], metric["unit"]) == ("api_calls", expected, "unit")

    span = f"periodStart={iso(NOW - timedelta(days=2))}&periodEnd={iso(NOW)}"
    then = api.ok("GET", f"/v1/usage/history?{query}&metric=api_calls&{span}&step=month")
    assert [row["value"] for row in then["usage"]] == [expected]
    series = api.ok("GET", f"/v1/usage/history?{query}&metric=api_calls&since=-P1D&interval=hour")
    fields(series, "tenantId", "metric", "timeRange", "series", "totals")
    assert series["totals"]["value"] == expected

    asked = {"tenantId": "acme", "customerRef": customer}
    cost = api.ok("POST", f"/v1/usage/projection?x=1{option}", asked)
    fields(
        cost, "customerRef", "periodStart", "periodEnd", "lineItems", "subtotal", "credits",
        "total", "currency", "freshness",
    )  # fmt: skip
    fields(cost["freshness"], "lastUpdate", "staleness")


# --- 1.5 mappings ---


def test_mappings_from_creation_to_deletion(api: Api) -> None:
    wanted = {
        "tenantId": "acme", "metric": "mapped", "aggregation": "sum", "stripeAccount": "acct_1",
        "priceId": "price_1",
    }  # fmt: skip
    made = api.ok("POST", "/v1/mappings", wanted, status=201)
    fields(
        made, "id", "tenantId", "metric", "aggregation", "stripeAccount", "priceId",
        "subscriptionItemId", "currency", "active", "shadow", "shadowStripeAccount",
        "shadowPriceId", "shadowSubscriptionItemId",
    )  # fmt: skip
    assert (made["active"], made["shadow"]) == (True, False)
    refused(api("POST", "/v1/mappings", wanted), 409)
    one = f"/v1/mappings/{made['id']}"
    assert api.ok("GET", one)["id"] == made["id"]
    assert [row["id"] for row in api.ok("GET", "/v1/mappings?tenantId=acme&metric=mapped")] == [
        made["id"]
    ]
    assert api.ok("PUT", one, {"active": False})["active"] is False
    refused(api("PUT", f"/v1/mappings/{uuid.uuid4()}", {"active": False}), 404)
    assert api("PUT", one, {}).status_code in {200, 400}
    assert api("DELETE", one).status_code == 204
    refused(api("GET", f"/v1/mappings/{uuid.uuid4()}"), 404)


# --- 1.6 reconciliation ---


def test_reconciliation_reports_in_every_documented_form(api: Api) -> None:
    queued = api.ok("POST", "/v1/reconciliation/run", {"tenantId": "acme"}, status=202)
    assert queued["message"] == "Reconciliation job queued"
    assert uuid.UUID(queued["jobId"])
    month = api.ok("GET", f"/v1/reconciliation/{MONTH}?tenantId=acme")
    fields(month, "period", "reports", "suggestedAdjustments", "summary")
    fields(month["summary"], "total", "ok", "investigating", "resolved", "maxDiff")
    span = f"tenantId=acme&periodStart={MONTH}&periodEnd={MONTH}"
    summary = api.ok("GET", f"/v1/reconciliation/summary?{span}")
    fields(summary["overall"], "local", "stripe", "drift_abs", "drift_pct", "metrics", "items")
    by_metric = api.ok("GET", "/v1/reconciliation/summary?tenantId=acme&metric=api_calls")
    fields(by_metric, "tenantId", "metric", "period", "reconciliation", "counters", "events")
    fields(
        by_metric["reconciliation"], "localTotal", "stripeTotal", "drift", "driftPercentage",
        "status", "lastChecked",
    )  # fmt: skip
    for path, header in (
        (f"/v1/reconciliation/{MONTH}?tenantId=acme&format=csv",
         "subscription_item_id,period,local,stripe,drift_abs,drift_pct,status"),
        (f"/v1/reconciliation/summary?{span}&format=csv",
         "metric,local,stripe,drift_abs,drift_pct,items"),
    ):  # fmt: skip
        answer = api("GET", path)
        assert answer.headers["Content-Type"].startswith("text/csv")
        assert answer.text.splitlines()[0].replace('"', "") == header
    refused(api("GET", f"/v1/reconciliation/summary?tenantId=acme&periodStart={MONTH}"
                "&periodEnd=2020-01"), 400)  # fmt: skip
    done = api.ok("POST", "/v1/reconciliation/adjustments", {
        "tenantId": "acme", "adjustmentIds": [str(uuid.uuid4())], "reason": "month end",
    })  # fmt: skip
    assert (done["applied"], done["failed"]) == (0, 1)


# --- 1.7 adjustments ---


def test_adjustments_correct_in_both_directions_and_are_undone_once(api: Api) -> None:
    """Positive deltas bill more, negative ones less: the sign is the sign of the total."""
    api.ok("POST", "/v1/events/ingest", {"events": [event("a1", 10, idempotencyKey="a1-1")]})
    made = api.ok("POST", "/v1/adjustments", {
        "tenantId": "acme", "metric": "api_calls", "customerRef": "a1",
        "periodStart": f"{MONTH}-01", "delta": -4, "reason": "correction", "note": "n",
    }, status=201)  # fmt: skip
    assert made["ok"] is True
    one = f"/v1/adjustments/{made['id']}"
    row = api.ok("GET", f"{one}?tenantId=acme")
    fields(
        row, "id", "tenantId", "metric", "customerRef", "periodStart", "delta", "reason", "actor",
        "status", "approvedBy", "approvedAt", "revertedBy", "revertedAt", "parentAdjustmentId",
        "requestId", "note", "createdAt",
    )  # fmt: skip
    assert row["delta"] == "-4"
    usage = api.ok("GET", "/v1/usage/current?tenantId=acme&customerRef=a1")
    assert usage["metrics"][0]["current"] == 10  # not before somebody else approved it
    listed = api.ok("GET", "/v1/adjustments?tenantId=acme&customerRef=a1&status=pending")
    assert [found["id"] for found in listed["adjustments"]] == [made["id"]]
    refused(api("POST", f"{one}/approve", {"tenantId": "acme"}), 403)  # four eyes
    early = refused(api("POST", f"{one}/revert", {"tenantId": "acme"}), 400)
    assert early["error"] == "Only approved adjustments can be reverted"
    refused(api("GET", f"/v1/adjustments/{uuid.uuid4()}?tenantId=acme"), 404)


# --- 1.8 alerts ---


def test_alerts_rules_states_and_notices(api: Api) -> None:
    rule = {"tenantId": "acme", "type": "threshold", "threshold": 100, "action": "webhook",
            "customerRef": "al", "metric": "api_calls"}  # fmt: skip
    made = api.ok("POST", "/v1/alerts", rule, status=201)
    fields(made, *rule, "id", "config", "enabled")
    assert (made["enabled"], made["config"]) == (True, {})
    assert [row["id"] for row in api.ok("GET", "/v1/alerts?tenantId=acme&customerRef=al")] == [
        made["id"]
    ]
    one = f"/v1/alerts/{made['id']}"
    fields(api.ok("PUT", one, {"threshold": 50}), "id", "threshold", "createdAt", "updatedAt")
    refused(api("PUT", f"/v1/alerts/{uuid.uuid4()}", {"threshold": 5}), 404)

    state = api.ok("POST", "/v1/alerts/states", {
        "tenantId": "acme", "metric": "api_calls", "customerRef": "al", "title": "A lot",
        "alertConfigId": made["id"], "value": 60, "threshold": 50, "action": "webhook",
    }, status=201)  # fmt: skip
    page = api.ok("GET", "/v1/alerts/states?tenantId=acme&customerRef=al&title=a%20LOT")
    assert [row["id"] for row in page["alertStates"]] == [state["id"]]
    assert page["total"] == 1
    fields(
        page["alertStates"][0], "id", "tenantId", "metric", "customerRef", "alertConfigId",
        "status", "severity", "title", "description", "createdAt", "updatedAt",
    )  # fmt: skip
    its = f"/v1/alerts/states/{state['id']}"
    assert api.ok("GET", its)["severity"] == "info"
    snoozed = api.ok("PUT", its, {
        "status": "snoozed", "value": 60, "threshold": "50", "action": "webhook", "metadata": "m",
    })  # fmt: skip
    assert (snoozed["status"], snoozed["metadata"]) == ("snoozed", "m")
    for name in ("history", "events"):
        notices = api.ok("GET", f"/v1/alerts/{name}?tenantId=acme&customerRef=al")
        assert len(notices) == 2  # triggered, then snoozed
        fields(
            notices[0], "id", "alertConfigId", "tenantId", "customerRef", "metric", "value",
            "threshold", "action", "status", "triggeredAt", "acknowledgedAt", "resolvedAt",
        )  # fmt: skip
    assert api.ok("DELETE", its) == {"ok": True}
    refused(api("GET", its), 404)
    assert api("DELETE", one).status_code == 204


# --- 1.9 simulations ---


def test_simulations_store_run_and_answer_in_full(api: Api) -> None:
    price = {"model": "flat", "currency": "USD", "unitPrice": 0.01}
    scenario = {"name": "s", "model": price, "tags": ["t"], "inputs": {
        "customerId": "c", "periodStart": "2026-01-01", "periodEnd": "2026-01-31",
        "usageItems": [{"metric": "m", "quantity": 1000, "priceConfig": price}],
    }}  # fmt: skip
    made = api.ok("POST", "/v1/simulations/scenarios", scenario, status=201)
    fields(made, "id", "name", "createdAt")
    one = f"/v1/simulations/scenarios/{made['id']}"
    fields(api.ok("GET", one), "id", "name", "model", "inputs", "tags", "version")
    listed = api.ok("GET", "/v1/simulations/scenarios?tag=t")
    fields(listed, "scenarios", "total", "limit", "offset")
    fields(api.ok("PUT", one, {**scenario, "name": "s2"}), "id", "name", "updatedAt")
    queued = api.ok("POST", "/v1/simulations/runs", {"scenarioId": made["id"]}, status=202)
    assert (queued["status"], queued["message"]) == ("pending", "Simulation queued for execution")
    row = api.ok("GET", f"/v1/simulations/runs/{queued['runId']}")
    fields(
        row, "id", "tenantId", "scenarioId", "name", "description", "runType", "scenarioSnapshot",
        "status", "startedAt", "completedAt", "durationMs", "result", "comparison", "passed",
        "error", "retryCount", "triggeredBy", "metadata", "createdAt",
    )  # fmt: skip
    fields(api.ok("GET", "/v1/simulations/runs"), "runs", "total", "limit", "offset")
    batch = api.ok("POST", "/v1/simulations/batch", {
        "name": "b", "scenarioIds": [made["id"]],
    }, status=202)  # fmt: skip
    fields(batch, "batchId", "totalRuns", "message")
    found = api.ok("GET", f"/v1/simulations/batch/{batch['batchId']}")
    fields(found["summary"], "totalRuns", "completed", "failed", "pending", "running")
    refused(api("POST", "/v1/simulations/batch", {
        "name": "b", "scenarioIds": [str(uuid.uuid4())],
    }), 400)  # fmt: skip
    assert api("DELETE", one).status_code == 204


# --- 1.10 API keys ---


def test_api_keys_are_shown_once_rotated_and_revoked(live: Live, api: Api) -> None:
    made = api.ok("POST", "/v1/admin/api-keys", {
        "name": "k", "projectId": None, "scopes": ["project:read"],
    }, status=201)  # fmt: skip
    assert get(live, "/v1/mappings?tenantId=acme", headers={"X-API-Key": made["apiKey"]}).is_success
    assert not {"secretHash", "hash"} & set(made["key"])
    one = f"/v1/admin/api-keys/{made['key']['id']}"
    rotated = api.ok("POST", f"{one}/rotate", {})
    fields(rotated, "apiKey", "key")
    assert api.ok("POST", f"{one}/revoke", {})["key"]["status"] == "revoked"
    refused(api("POST", "/v1/admin/api-keys", {"scopes": ["no:such"]}), 400)


# --- 1.11 replay ---


def test_a_replay_dry_run_says_what_would_change_and_changes_nothing(api: Api) -> None:
    api.ok("POST", "/v1/events/ingest", {"events": [event("rp", 50, metric="replayed")]})
    before = api.ok("GET", "/v1/usage/current?tenantId=acme&customerRef=rp")
    found = api.ok("POST", "/v1/replay", {
        "tenantId": "acme", "metrics": ["replayed"], "since": "-PT24H", "until": "now",
        "mode": "dry-run",
    })  # fmt: skip
    fields(
        found, "mode", "tenantId", "metrics", "timeRange", "changes", "cursor", "watermark",
        "summary",
    )  # fmt: skip
    assert "applied" not in found
    assert re.match(r"Would update \d+ counters? with \+?-?[\d.]+ total delta", found["summary"])
    for change in found["changes"].values():
        fields(change, "eventsFound", "lateEvents", "counterDelta", "affectedCustomers")
    after = api.ok("GET", "/v1/usage/current?tenantId=acme&customerRef=rp")
    assert after["metrics"] == before["metrics"]
    applied = api.ok("POST", "/v1/replay", {
        "tenantId": "acme", "metrics": ["replayed"], "since": "-PT24H", "until": "now",
        "mode": "apply",
    })  # fmt: skip
    assert applied["applied"] is True
    assert applied["summary"].startswith("Updated ")


# --- the documented examples ---


def shell(live: Live, script: str, **env: str) -> list[Any]:
    """The JSON answers that an example prints."""
    done = subprocess.run(
        ["sh", str(ROOT / "examples/api" / script)], capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "STRIPEMETER_URL": live.url, "TENANT": "acme",
             "STRIPEMETER_KEY": live.caller.plaintext, **env},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return [loads(line) for line in done.stdout.splitlines() if line]


def test_the_example_that_sends_twice_counts_once(live: Live) -> None:
    first, again = shell(live, "send_twice.sh", CUSTOMER="twice")
    assert (first["accepted"], again["accepted"], again["duplicates"]) == (1, 0, 1)
    (usage,) = shell(live, "usage.sh", CUSTOMER="twice")
    assert [row["current"] for row in usage["metrics"]] == [42]


@pytest.mark.parametrize("script", ["send", "usage", "history", "projection", "push"])
def test_every_example_runs(live: Live, script: str) -> None:
    assert len(shell(live, f"{script}.sh", CUSTOMER="ex")) == 1
