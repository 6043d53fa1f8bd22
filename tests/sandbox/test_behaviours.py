"""One case per rule of the behaviour table, for the sandbox and for a real account.

    STRIPE_TEST_SECRET_KEY=sk_test_… pytest tests/sandbox/test_behaviours.py -m live_stripe

Everything a live run makes is test-mode data with names of its own; meters are
deactivated and subscriptions cancelled afterwards.
"""

import os
import socket
from collections.abc import Iterator

import pytest
import stripe

from billing.stripe_sandbox.behaviours import RULES
from tests.sandbox import behaviours_invoices, behaviours_metering
from tests.sandbox.behaviour_account import CASES, Account
from tests.sandbox.conftest import VERSION
from tests.support import network

#: Importing them fills the table.
CASE_MODULES = (behaviours_metering, behaviours_invoices)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_the_sandbox_follows_the_rule(rule, sandbox, client):
    CASES[rule.id](Account(client, sandbox))


@pytest.fixture
def real_account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """A real test account; this test alone may leave the machine."""
    key = os.environ["STRIPEMETER_LIVE_TEST_KEY"]
    assert "_test_" in key, "never run this with a live key"
    monkeypatch.setattr(socket.socket, "connect", network._connect)
    client = stripe.StripeClient(key, stripe_version=VERSION, max_network_retries=2)
    account = Account(client)
    yield account
    for subscription in account.subscriptions:
        client.v1.subscriptions.cancel(subscription)
    for meter in account.meters:
        if client.v1.billing.meters.retrieve(meter).status == "active":
            client.v1.billing.meters.deactivate(meter)


@pytest.mark.live_stripe
@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.live], ids=lambda rule: rule.id)
def test_real_stripe_follows_the_rule(rule, real_account):
    CASES[rule.id](real_account)


def test_every_rule_has_a_case_and_every_case_a_rule():
    assert sorted(CASES) == sorted(rule.id for rule in RULES)
    assert len({rule.id for rule in RULES}) == len(RULES)
