"""Caps answer from the counter and what is stored and not yet folded."""

import random
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.test import Client

from billing import caps
from billing.models import AlertRule
from counters.selectors import period_of
from counters.services.calendars import set_calendar
from ledger.services.registry import metric_ids
from stripemeter.lib import clock
from stripemeter.lib.instants import rfc3339
from stripemeter.lib.periods import utc_month
from stripemeter.tenancy.models import Tenant
from stripemeter.tenancy.recognition import forget_cached_keys
from tests.billing.test_alerts import priced, rule
from tests.builders.ledger import fold, make_event, store
from tests.builders.tenancy import Caller, make_caller

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme() -> Caller:
    forget_cached_keys()
    make_caller("globex")
    return make_caller("acme")


def check(caller: Caller, **query: Any) -> Any:
    answer = Client().get("/v1/caps/check", {"customerRef": "c1", **query}, headers=caller.headers)
    assert answer.status_code == 200, answer.content
    return answer.json()


def use(caller: Caller, quantity: int, *, folded: bool) -> None:
    now = clock.now()
    store(caller.tenant, make_event(quantity, customer="c1", ts=now), now=now)
    if folded:
        fold(now)


def test_a_hard_cap_denies_from_folded_and_pending_usage(acme: Caller) -> None:
    rule(acme, action="hard_cap")
    rule(acme, action="soft_cap", threshold=50)
    assert check(acme, metric="api_calls")["decision"] == "allow"
    use(acme, 60, folded=True)
    allowed = check(acme, metric="api_calls", quantity="40")
    assert allowed["allowed"]
    assert allowed["warnings"] == ["api_calls: soft cap of 50"]
    assert not check(acme, metric="api_calls", quantity="40.5")["allowed"]
    use(acme, 40, folded=False)
    denied = check(acme, metric="api_calls")
    assert (denied["decision"], denied["reason"]) == ("deny", "api_calls: hard cap of 100")
    assert denied["pendingEvents"] == 1
    assert denied["resumesAt"] > denied["asOf"]
    assert not check(acme)["allowed"]
    assert check(acme, customerRef="c2")["allowed"]


def test_a_cap_on_money_denies_once_the_cost_reaches_it(acme: Caller) -> None:
    priced(acme)
    rule(acme, type="budget", metric=None, threshold=5, action="hard_cap")
    use(acme, 49, folded=True)
    assert check(acme)["allowed"]
    use(acme, 1, folded=False)
    denied = check(acme, metric="api_calls")
    assert denied["reason"] == "the bill: hard cap of 5 USD"


@pytest.mark.parametrize("seed", range(3))
def test_the_check_and_the_widget_read_the_same_caps(acme: Caller, seed: int) -> None:
    """Two statements state one rule: `caps._CHECK` and `caps_in_force`."""
    rng, now = random.Random(seed), clock.now()
    globex = Tenant.objects.get(key="globex")
    for tenant in (acme.tenant, globex):
        metric_id = metric_ids(tenant.pk, {"api_calls"})["api_calls"]
        for number in range(25):
            action = rng.choice(["email", "soft_cap", "hard_cap"])
            AlertRule.objects.create(
                id=UUID(int=rng.getrandbits(128)), tenant=tenant, action=action,
                customer_ref=rng.choice([None, "c1", "c2"]),
                metric_id=rng.choice([None, metric_id]), type=rng.choice(["threshold", "budget"]),
                threshold=Decimal(rng.randrange(10**9)).scaleb(-3), enabled=rng.random() < 0.8,
                config=rng.choice([{}, {"currency": "eur"}, {"currency": None}]), created_by="t",
                created_at=now - timedelta(minutes=number % 9), updated_at=now,
                deleted_at=None if rng.random() < 0.8 else now,
            )  # fmt: skip

    def said(rule: AlertRule) -> tuple[Any, ...]:
        return (
            rule.id, rule.tenant_id, rule.customer_ref, rule.metric_id, rule.type, rule.action,
            rule.threshold, rule.config.get("currency"),
        )  # fmt: skip

    for tenant in (acme.tenant, globex):
        for ref in ("c1", "c2", "c3"):
            checked = caps._read(tenant.pk, ref, utc_month(now), None).rules
            shown = caps.caps_in_force(tenant_id=tenant.pk, customer_ref=ref)
            assert checked
            assert [said(each) for each in checked] == [said(each) for each in shown]


def test_an_unknown_metric_is_no_silent_allowance(acme: Caller) -> None:
    query = {"customerRef": "c1", "metric": "nothing"}
    answer = Client().get("/v1/caps/check", query, headers=acme.headers)
    assert answer.status_code == 404


def test_one_round_trip_answers_where_no_calendar_is_set(
    acme: Caller, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    rule(acme, action="hard_cap")
    use(acme, 60, folded=True)
    with django_capture_on_commit_callbacks(execute=True):
        check(acme, metric="api_calls")  # the key and the metric's id are known from here on
    asked: list[Any] = []
    execute = psycopg.Cursor.execute

    def counted(cursor: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(query)
        return execute(cursor, query, *args, **kwargs)

    monkeypatch.setattr(psycopg.Cursor, "execute", counted)
    assert check(acme, metric="api_calls")["caps"][0]["current"] == 60
    # A transaction, as tests have one, cannot trust whose rows its connection shows.
    assert len([each for each in asked if "set_config" not in str(each)]) == 1, asked


def test_the_period_of_a_cap_follows_the_customers_calendar(acme: Caller) -> None:
    rule(acme, action="hard_cap")
    now = clock.now()
    set_calendar(
        tenant_id=acme.tenant.pk,
        customer_ref="c1",
        anchor=now.replace(minute=0, second=0, microsecond=0),
        interval="day",
        interval_count=1,
        zone="UTC",
        actor="test",
        now=now,
    )
    old = now - timedelta(days=1)
    store(acme.tenant, make_event(100, customer="c1", ts=old), now=now)
    use(acme, 30, folded=False)
    answer = check(acme, metric="api_calls")
    assert (answer["allowed"], answer["caps"][0]["current"]) == (True, 30)
    use(acme, 70, folded=True)
    denied = check(acme, metric="api_calls")
    assert not denied["allowed"]
    period_end = period_of(tenant_id=acme.tenant.pk, customer_ref="c1", instant=now).end
    assert denied["resumesAt"] == rfc3339(period_end)


def test_the_answer_is_the_same_through_the_framework(acme: Caller) -> None:
    rule(acme, action="hard_cap", threshold="100.25")
    query = {"customerRef": "c1", "metric": "api_calls", "decimals": "string"}
    head = Client().head("/v1/caps/check", query, headers=acme.headers)
    assert (head.status_code, head.content) == (200, b"")
    assert check(acme, metric="api_calls", decimals="string")["caps"][0]["limit"] == "100.25"
    refused = Client().get("/v1/caps/check", query, headers={**acme.headers, "Accept": "text/csv"})
    assert refused.status_code == 406
