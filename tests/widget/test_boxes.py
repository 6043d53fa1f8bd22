"""What stands above the numbers: caps that are reached, alerts that the customer may see."""

import re

import pytest

from billing.services.alert_runs import evaluate_alerts
from counters.selectors import period_of
from counters.services.fold import fold_everything
from stripemeter.lib import clock
from stripemeter.lib.instants import parse_instant
from stripemeter.tenancy.recognition import forget_cached_keys
from tests.builders.tenancy import make_caller
from tests.widget.test_widget import call, post_events, token_of

pytestmark = pytest.mark.django_db
CUSTOMER = "cus_t1"


@pytest.fixture
def acme(client):
    forget_cached_keys()
    globex = make_caller("globex")
    rule(client, globex, "hard_cap", 1)
    return make_caller("acme")


def rule(client, caller, action, threshold, **fields):
    body = {"type": "threshold", "threshold": threshold, "action": action, "metric": "api_calls"}
    assert call(client, "post", "/v1/alerts", caller, {**body, **fields}).status_code == 201


def boxes(client, caller):
    """Every box of the page as (classes, role, text), top down."""
    page = client.get("/widget/embed", {"token": token_of(client, caller)}).content.decode()
    found = re.findall(r'<p class="notice ?([a-z]*)" role="([a-z]+)">(.*?)</p>', page, re.S)
    return [(tone, role, re.sub(r"<[^>]+>", "", text).strip()) for tone, role, text in found]


def shown(client, caller):
    return call(client, "get", "/widget/usage", token_of(client, caller)).json()


def test_below_its_caps_a_customer_sees_no_box(client, acme):
    rule(client, acme, "hard_cap", 100)
    post_events(client, acme, CUSTOMER, 99)
    assert boxes(client, acme) == []
    assert (shown(client, acme)["stopped"], shown(client, acme)["alerts"]) == (False, [])


def test_a_hard_cap_stands_first_and_says_when_usage_resumes(client, acme):
    rule(client, acme, "soft_cap", 50)
    rule(client, acme, "hard_cap", 100)
    post_events(client, acme, CUSTOMER, 60)
    assert boxes(client, acme) == [("warn", "status", "api_calls: the limit of 50 is reached.")]
    fold_everything(now=clock.now())
    post_events(client, acme, CUSTOMER, 0, 40)  # stored and not yet counted up
    hard, soft = boxes(client, acme)
    assert hard[:2] == ("bad", "alert")
    assert hard[2].startswith("api_calls: the limit of 100 is reached. Usage resumes on ")
    assert soft[2] == "api_calls: the limit of 50 is reached."
    answer = shown(client, acme)
    period = period_of(tenant_id=acme.tenant.pk, customer_ref=CUSTOMER, instant=clock.now())
    assert answer["stopped"] is True
    assert parse_instant(answer["resumesAt"]) == period.end
    assert [(each["type"], each["severity"], each["current"]) for each in answer["alerts"]] == [
        ("hard_cap", "critical", 100), ("soft_cap", "warning", 100),
    ]  # fmt: skip


def test_an_alert_shows_only_if_its_rule_says_so(client, acme):
    rule(client, acme, "webhook", 10)
    rule(client, acme, "email", 20, config={"email": "a@example.com", "showCustomer": True})
    post_events(client, acme, CUSTOMER, 25)
    fold_everything(now=clock.now())
    evaluate_alerts(now=clock.now())
    ((tone, role, text),) = boxes(client, acme)
    assert (tone, role) == ("warn", "status")
    assert text.startswith("api_calls: ")
    assert "20" in text
    (alert,) = shown(client, acme)["alerts"]
    assert (alert["type"], alert["metric"]) == ("threshold", "api_calls")
