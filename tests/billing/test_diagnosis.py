"""`stripemeter doctor` sees every way in which a set-up can be wrong, and says what to do."""

from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from billing.diagnosis import diagnose
from billing.models import StripeAccount, WebhookInbox
from billing.stripe.client import client_for
from tests.builders.billing import World
from tests.builders.tenancy import make_caller


def findings(world: World) -> dict[str, tuple[str, str]]:
    found = diagnose(tenant=world.acme, now=world.now)
    return {each.name: (each.state, each.told) for each in found}


@pytest.fixture
def world(world: World) -> World:
    """Everything right: a mapping, its meter, its customer, usage that was pushed."""
    world.mapping()
    world.use(3)
    world.push()
    WebhookInbox.objects.create(
        event_id="evt_1", kind="snapshot", type="invoice.created", body=b"{}", digest=bytes(32),
        received_at=world.now, not_before=world.now, status="processed",
    )  # fmt: skip
    return world


def test_a_right_set_up_has_nothing_to_say(world: World) -> None:
    states = {name: state for name, (state, _) in findings(world).items()}
    assert {name for name, state in states.items() if state == "bad"} == set()
    assert {
        "migrations", "live key", "account default (live)", "meter requests", "customers",
        "webhooks", "fold", "pushes parked", "pushes needs_review",
    } <= {name for name, state in states.items() if state == "ok"}  # fmt: skip


def test_a_missing_or_swapped_key_is_found(world: World, settings: Settings) -> None:
    settings.STRIPE_SECRET_KEY = ""
    assert findings(world)["live key"][0] == "bad"
    settings.STRIPE_SECRET_KEY = "sk_test_swapped"
    state, told = findings(world)["live key"]
    assert (state, "sk_test" in told) == ("bad", False)


def test_a_halted_account_is_found(world: World) -> None:
    StripeAccount.objects.update(halted_at=world.now, halted_reason="401")
    assert findings(world)["account default (live)"] == (
        "bad", "halted: 401; manage.py stripe_account resume",
    )  # fmt: skip


def test_a_meter_that_is_absent_archived_or_of_another_formula_is_found(world: World) -> None:
    world.mapping(metric="seats")
    assert findings(world)["meter seats"][0] == "bad"
    meter = world.meter("seats", formula="last")
    state, told = findings(world)["meter seats"]
    reason = "the meter is last; increment needs sum without a window"
    assert (state, told) == ("bad", f"cannot take sum: {reason}")
    world.meter("hourly", event_time_window="day")
    world.mapping(metric="hourly", push_semantics="hour_total")
    state, told = findings(world)["meter hourly"]
    reason = "the meter is sum with window day; hour_total needs sum with window hour"
    assert (state, told) == ("bad", f"cannot take sum: {reason}")
    client_for("live").v1.billing.meters.deactivate(meter)
    assert findings(world)["meter seats"] == ("bad", "is archived: pushes to it are refused")


def test_a_customer_with_usage_and_no_link_is_named(world: World) -> None:
    world.use(1, customer="unlinked")
    world.use(1, customer="cus_itself")
    state, told = findings(world)["customers"]
    assert state == "bad"
    assert told.startswith("unlinked have usage")


def test_silent_and_unsigned_webhooks_are_found(world: World, settings: Settings) -> None:
    WebhookInbox.objects.all().delete()
    assert findings(world)["webhooks"][0] == "warn"
    settings.STRIPE_WEBHOOK_SECRETS = []
    assert findings(world)["webhooks"][0] == "bad"


def test_the_route_shows_one_tenant_only_its_own_accounts(world: World, settings: Any) -> None:
    StripeAccount.objects.create(account="acct_ofGlobex", mode="live")
    answer = Client().get("/v1/diagnosis", headers=make_caller(world.acme).headers)
    assert answer.status_code == 200
    assert "acct_ofGlobex" not in answer.content.decode()
    assert {row["state"] for row in answer.json()["findings"]} <= {"ok", "warn", "bad"}
