"""Alert rules: who is told what, once a period, and right after corrections."""

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from billing.models import AlertEvent, AlertRule, AlertState, Delivery
from billing.services.alert_runs import evaluate_alerts
from billing.services.mappings import Actor, create_mapping
from billing.wakeups import alerts_after_fold
from counters.services.adjustments import Approver, approve_adjustment, create_adjustment
from stripemeter.lib import clock
from stripemeter.tenancy.models import AuditEntry
from stripemeter.tenancy.recognition import forget_cached_keys
from tests.builders.ledger import NOW, fold, make_event, store
from tests.builders.tenancy import Caller, make_caller

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_caches() -> None:
    forget_cached_keys()


@pytest.fixture
def acme() -> Caller:
    return make_caller("acme")


@pytest.fixture(autouse=True)
def globex() -> Caller:
    return make_caller("globex")


def call(caller: Caller, method: str, path: str, body: Any = None) -> Any:
    data = {} if body is None else {"data": json.dumps(body), "content_type": "application/json"}
    return getattr(Client(), method)(f"/v1/{path}", headers=caller.headers, **data)


def rule(caller: Caller, **fields: Any) -> str:
    body = {"type": "threshold", "threshold": 100, "action": "webhook", "metric": "api_calls"}
    answer = call(caller, "post", "alerts", {**body, **fields})
    assert answer.status_code == 201, answer.content
    return str(answer.json()["id"])


def use(caller: Caller, quantity: int, *, customer: str = "c1", ts: Any = NOW, now: Any = NOW,
        metric: str = "api_calls") -> None:  # fmt: skip
    event = make_event(quantity, customer=customer, ts=ts, metric=metric,
                       idempotencyKey=str(uuid4()))  # fmt: skip
    store(caller.tenant, event, now=now)
    fold(now)


def correct(caller: Caller, delta: int, *, now: Any = NOW) -> None:
    made = create_adjustment(
        tenant_id=caller.tenant.pk, metric="api_calls", customer_ref="c1", period_start=now,
        delta=Decimal(delta), reason="correction", actor="asker", now=now,
    )  # fmt: skip
    approve_adjustment(
        tenant_id=caller.tenant.pk, adjustment_id=made.pk, approver=Approver("other"), now=now
    )


def states(**filters: Any) -> list[tuple[str, str, Decimal, str]]:
    rows = AlertState.objects.filter(**filters).order_by("triggered_at", "customer_ref", "metric")
    return [(row.customer_ref, row.metric, row.value, row.status) for row in rows]


def test_a_threshold_speaks_once_a_period_and_again_in_the_next(acme: Caller) -> None:
    rule(acme)
    use(acme, 99)
    assert evaluate_alerts(now=NOW) == 0
    use(acme, 1)
    assert evaluate_alerts(now=NOW) == 1
    use(acme, 500)
    assert evaluate_alerts(now=NOW) == 0
    assert states() == [("c1", "api_calls", Decimal(100), "triggered")]
    later = NOW + timedelta(days=30)
    use(acme, 100, ts=later, now=later)
    assert evaluate_alerts(now=later) == 1
    assert [row[3] for row in states()] == ["resolved", "triggered"]


def test_a_correction_takes_the_word_back_and_late_usage_gives_it_again(acme: Caller) -> None:
    rule(acme)
    use(acme, 120)
    evaluate_alerts(now=NOW)
    correct(acme, -50)
    assert evaluate_alerts(now=NOW) == 1
    assert states() == [("c1", "api_calls", Decimal(70), "resolved")]
    use(acme, 40, ts=NOW - timedelta(days=10))
    assert evaluate_alerts(now=NOW) == 1
    assert states() == [("c1", "api_calls", Decimal(110), "triggered")]
    kinds = AlertEvent.objects.order_by("recorded_at", "pk").values_list("kind", flat=True)
    assert list(kinds) == ["triggered", "revised", "revised"]


def test_the_narrowest_scope_overrides_and_other_actions_stay(acme: Caller) -> None:
    rule(acme, metric=None, threshold=10)
    rule(acme, threshold=100)
    rule(acme, customerRef="vip", threshold=1_000)
    rule(acme, metric=None, threshold=10, action="email")
    for customer in ("c1", "vip"):
        use(acme, 150, customer=customer)
    use(acme, 50, customer="vip", metric="exports")
    evaluate_alerts(now=NOW)
    said = AlertState.objects.order_by("customer_ref", "metric", "action")
    assert [(s.customer_ref, s.metric, s.action, s.threshold) for s in said] == [
        ("c1", "api_calls", "email", 10),
        ("c1", "api_calls", "webhook", 100),
        ("vip", "api_calls", "email", 10),
        ("vip", "exports", "email", 10),
        ("vip", "exports", "webhook", 10),
    ]


def test_a_spike_is_today_against_the_days_before(acme: Caller) -> None:
    rule(acme, type="spike", threshold=3, config={"baselineDays": 4})
    for back in range(1, 5):
        day = NOW - timedelta(days=back)
        use(acme, 100, ts=day, now=day)
    use(acme, 299)
    assert evaluate_alerts(now=NOW) == 0
    use(acme, 1)
    assert evaluate_alerts(now=NOW) == 1
    assert states() == [("c1", "api_calls", Decimal(3), "triggered")]


def priced(caller: Caller) -> None:
    values = {
        "aggregation": "sum", "stripe_account": "default", "price_id": "price_1",
        "local_price": {"model": "flat", "currency": "USD", "unitPrice": "0.10"},
    }  # fmt: skip
    create_mapping(actor=Actor(caller.tenant.pk, "t", NOW), metric="api_calls", values=values)


def test_budgets_speak_of_money_so_far_and_expected(acme: Caller) -> None:
    priced(acme)
    rule(acme, type="budget", metric=None, threshold=50)
    rule(acme, type="forecasted_budget", metric=None, threshold=80)
    for back in range(14):
        day = NOW - timedelta(days=back)
        use(acme, 33, ts=day, now=day)
    evaluate_alerts(now=NOW)
    assert [s.rule.type for s in AlertState.objects.all()] == ["forecasted_budget"]
    use(acme, 50)
    evaluate_alerts(now=NOW)
    found = AlertState.objects.get(rule__type="budget")
    assert (found.value, found.metric) == (Decimal("51.2"), "")


def test_current_usage_shows_what_holds_now(acme: Caller) -> None:
    alerts_after_fold.asked = 0.0
    rule(acme, action="hard_cap")
    now = clock.now()
    use(acme, 100, ts=now, now=now)
    evaluate_alerts(now=now)
    found = call(acme, "get", "usage/current?tenantId=acme&customerRef=c1").json()["alerts"]
    assert [(row["type"], row["severity"], row["action"]) for row in found] == [
        ("threshold", "critical", "hard_cap")
    ]
    assert call(acme, "get", "usage/current?tenantId=acme&customerRef=c2").json()["alerts"] == []


def test_a_rule_of_another_tenant_says_nothing(acme: Caller, globex: Caller) -> None:
    rule(globex)
    use(acme, 500)
    assert evaluate_alerts(now=NOW) == 0


def test_mails_go_to_whom_the_rule_names_and_slack_to_its_url(acme: Caller) -> None:
    rule(acme, action="email", config={"to": ["ops@acme.example"]})
    hook = "https://hooks.slack.example/T1/B1"
    rule(acme, action="slack", config={"webhookUrl": hook})
    use(acme, 100)
    evaluate_alerts(now=NOW)
    queued = dict(Delivery.objects.values_list("channel", "target"))
    assert queued == {"email": "ops@acme.example", "slack": hook}


def test_the_routes_follow_the_contract(acme: Caller, globex: Caller) -> None:
    made = rule(acme, customerRef="c1", config={"note": "x"})
    use(acme, 100)
    evaluate_alerts(now=NOW)
    listed = call(acme, "get", "alerts?tenantId=acme&customerRef=c1&enabled=true").json()
    assert {k: listed[0][k] for k in ("id", "metric", "threshold", "config", "enabled")} == {
        "id": made, "metric": "api_calls", "threshold": 100, "config": {"note": "x"},
        "enabled": True,
    }  # fmt: skip
    found = call(acme, "get", "alerts/states?title=REACHED&severity=warn").json()
    assert found["total"] == 1
    state = found["alertStates"][0]["id"]
    body = {"status": "acknowledged", "value": "100", "threshold": "100", "action": "webhook"}
    assert call(globex, "put", f"alerts/states/{state}", body).status_code == 404
    answer = call(acme, "put", f"alerts/states/{state}", body)
    assert (answer.status_code, answer.json()["status"]) == (200, "acknowledged")
    history = call(acme, "get", "alerts/events").json()
    assert [event["kind"] for event in history] == ["acknowledged", "triggered"]
    assert call(acme, "get", "alerts/history?status=triggered").json()[0]["value"] == 100
    report = {
        "metric": "api_calls", "customerRef": "c9", "title": "seen", "alertConfigId": made,
        "value": 5, "threshold": "3", "action": "email",
    }  # fmt: skip
    assert call(acme, "post", "alerts/states", report).status_code == 201
    assert call(globex, "post", "alerts/states", report).status_code == 404
    assert call(acme, "delete", f"alerts/states/{state}").json() == {"ok": True}
    assert call(acme, "put", f"alerts/{made}", {"threshold": 7}).json()["threshold"] == 7
    assert call(globex, "put", f"alerts/{made}", {"threshold": 7}).status_code == 404
    assert call(acme, "delete", f"alerts/{made}").status_code == 204
    assert call(acme, "get", "alerts").json() == []
    assert AuditEntry.objects.filter(action__startswith="alert").count() == 6


def test_a_reader_may_list_but_reading_one_state_takes_write(acme: Caller) -> None:
    reader = make_caller(acme.tenant, scopes=["alerts:read"])
    assert call(reader, "get", "alerts/states").status_code == 200
    assert call(reader, "get", f"alerts/states/{uuid4()}").status_code == 403


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "spike", "action": "hard_cap", "threshold": 3},
        {"type": "spike", "threshold": 1},
        {"threshold": -1},
        {"action": "slack"},
        {"action": "slack", "config": {"webhookUrl": "http://hooks.slack.example/"}},
        {"action": "slack", "config": {"webhookUrl": "https://169.254.169.254/"}},
        {"action": "email", "config": {"to": "not an address"}},
        {"config": {"severity": "loud"}},
        {"config": {"blob": "x" * 5_000}},
        {"unknown": 1},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(acme: Caller, wrong: dict[str, Any]) -> None:
    body = {"type": "threshold", "threshold": 5, "action": "webhook", "metric": "m", **wrong}
    assert call(acme, "post", "alerts", body).status_code == 400
    assert not AlertRule.objects.exists()


def test_a_snooze_ends_by_itself(acme: Caller) -> None:
    rule(acme)
    use(acme, 100)
    evaluate_alerts(now=NOW)
    AlertState.objects.update(status="snoozed", snoozed_until=NOW + timedelta(hours=1))
    assert evaluate_alerts(now=NOW) == 0
    assert evaluate_alerts(now=NOW + timedelta(hours=2)) == 1
    assert states()[0][3] == "triggered"


def test_webhooks_hear_of_everything_that_becomes_of_an_alert(acme: Caller, globex: Caller) -> None:
    for caller in (acme, globex):
        body = {"url": "https://hooks.example.com/in", "eventTypes": ["alert.*", "usage.*"]}
        assert call(caller, "post", "webhook-endpoints", body).status_code == 201
    rule(acme, action="email", config={"email": "ops@example.com"})
    use(acme, 120)
    evaluate_alerts(now=NOW)
    state = call(acme, "get", "alerts/states").json()["alertStates"][0]["id"]
    until = (clock.now() + timedelta(days=1)).isoformat()
    for change in (
        {"status": "acknowledged"},
        {"status": "snoozed", "snoozedUntil": until},
        {"status": "resolved"},
    ):
        known = {"value": "120", "threshold": "100", "action": "email"}
        answer = call(acme, "put", f"alerts/states/{state}", {**known, **change})
        assert answer.status_code == 200, answer.content
    use(acme, 200, customer="c2")
    evaluate_alerts(now=NOW)
    correct_c2 = create_adjustment(
        tenant_id=acme.tenant.pk, metric="api_calls", customer_ref="c2", period_start=NOW,
        delta=Decimal(-150), reason="correction", actor="asker", now=NOW,
    )  # fmt: skip
    approve_adjustment(
        tenant_id=acme.tenant.pk, adjustment_id=correct_c2.pk, approver=Approver("other"), now=NOW
    )
    evaluate_alerts(now=NOW)
    sent = Delivery.objects.filter(channel="webhook")
    kinds = sorted(each.event_type for each in sent)
    assert kinds == sorted(
        ["alert.triggered", "usage.threshold"] * 2
        + ["alert.acknowledged", "alert.snoozed", "alert.resolved", "alert.revised"]
    )
    assert {each.tenant_id for each in sent} == {acme.tenant.pk}
