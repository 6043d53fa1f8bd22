"""Caps answer from the counter and what is stored and not yet folded."""

from typing import Any

import pytest
from django.test import Client

from ledger.services.registry import forget_cached_metrics
from stripemeter.lib import clock
from stripemeter.tenancy.recognition import forget_cached_keys
from tests.billing.test_alerts import priced, rule
from tests.builders.ledger import fold, make_event, store
from tests.builders.tenancy import Caller, make_caller

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme() -> Caller:
    forget_cached_keys()
    forget_cached_metrics()
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


def test_an_unknown_metric_is_no_silent_allowance(acme: Caller) -> None:
    query = {"customerRef": "c1", "metric": "nothing"}
    answer = Client().get("/v1/caps/check", query, headers=acme.headers)
    assert answer.status_code == 404
