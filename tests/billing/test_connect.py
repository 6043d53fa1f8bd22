"""Several Stripe accounts side by side, each reached by its own mapping; and what a day costs."""

from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command

from billing import push_plan
from billing.models import CustomerLink, Push, StripeAccount
from billing.services import accounts, mappings
from billing.stripe.client import client_for
from tests.builders.billing import World, at

EVENTS = "/v1/billing/meter_events"
NORTH, SOUTH = "acct_north1", "acct_south1"


@pytest.fixture
def connected(world: World) -> dict[str, str]:
    """Two connected accounts with a meter, a customer and a mapping of acme each."""
    client = client_for("live").v1
    found = {}
    for account, metric in ((NORTH, "north"), (SOUTH, "south")):
        there = {"stripe_account": account}
        client.billing.meters.create(
            {
                "display_name": metric,
                "event_name": metric,
                "default_aggregation": {"formula": "sum"},
            },
            there,
        )
        found[account] = str(client.customers.create({"name": metric}, there).id)
        CustomerLink.objects.create(
            tenant=world.acme,
            customer_ref=metric,
            stripe_customer_id=found[account],
            created_at=world.now,
            created_by="test",
        )
        mappings.create_mapping(
            actor=mappings.Actor(world.acme.pk, "test", world.now),
            metric=metric,
            values={"aggregation": "sum", "stripe_account": account, "price_id": "price_1"},
        )
    return found


def held_by_account(world: World) -> dict[str, Decimal]:
    """Stripe's exact sums per account."""
    found: dict[str, Decimal] = {}
    for row in world.sandbox.totals():
        found[row["world"]] = found.get(row["world"], Decimal(0)) + Decimal(str(row["sum"]))
    return found


def test_each_mapping_reaches_its_own_account(world, connected):
    for metric, quantity in (("north", 5), ("south", 7)):
        world.use(quantity, metric=metric, customer=metric)
    world.settle()
    assert held_by_account(world) == {f"live:{NORTH}": 5, f"live:{SOUTH}": 7}
    assert {line["customer"] for line in world.calls()} == set(connected.values())


def test_an_account_that_refuses_our_key_stops_alone_and_resumes_exactly(world, connected):
    fault = {"path": EVENTS, "customer": connected[SOUTH], "count": None}
    world.sandbox.fault("unauthorized", **fault)
    for quantity in (5, 6):
        for metric in ("north", "south"):
            world.use(quantity, metric=metric, customer=metric)
        world.push()
        world.move(minutes=15)
    halted = StripeAccount.objects.get(halted_at__isnull=False)
    assert (halted.account, halted.mode) == (SOUTH, "live")
    assert held_by_account(world) == {f"live:{NORTH}": 11}
    world.sandbox.clear_faults()
    accounts.resume_account(
        account_id=halted.pk, tenant_id=world.acme.pk, actor="test", now=world.now
    )
    world.settle()
    assert held_by_account(world) == {f"live:{NORTH}": 11, f"live:{SOUTH}": 11}
    assert not Push.objects.exclude(state="acknowledged").exists()


def test_the_plan_counts_calls_for_ten_thousand_customers_and_five_metrics(
    world, connected, capsys
):
    found = push_plan.plan(cursors=50_000, interval_seconds=300, calls_per_second=500)
    assert (found.pushes_per_day, found.calls_per_second) == (14_400_000, 167)
    assert (found.shortest_interval_seconds, found.reading_seconds) == (100, 2_000)
    world.use(1, metric="north", customer="north", ts=at(20, 9))
    call_command("push_plan", "--interval", "300")
    said = capsys.readouterr().out
    assert "50,000" in said
    assert "14,400,000" in said


@pytest.mark.parametrize("name", ["--interval", "--customers", "--metrics"])
def test_a_plan_for_nothing_that_can_be_is_refused(name):
    with pytest.raises(CommandError, match="at least"):
        call_command("push_plan", name, "-1" if name != "--interval" else "0")
