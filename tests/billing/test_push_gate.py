"""I31: a restored backup sends nothing until Stripe was read back for every cursor."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from psycopg import sql

from billing.models import CustomerLink, Push, PushCursor, StripeAccount
from billing.services import anchors, gate, settling
from billing.services.running import plan_now
from billing.stripe.client import client_for
from stripemeter.lib import redisclient
from stripemeter.runtime.postgres import OWNER_ROLE
from stripemeter.tenancy.models import AuditEntry
from tests.builders.billing import World

Copier = Callable[[], None]


@pytest.fixture
def copies(world: World, cluster: Any) -> Any:
    """(back up, restore): a copy of the whole database, and the database set back to it."""
    name = str(connection.settings_dict["NAME"])
    kept = f"{name}_kept"

    def copy(source: str, target: str) -> None:
        connection.close()
        cluster.disconnect_others(source)
        with cluster.connect() as superuser:
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            superuser.execute(drop.format(sql.Identifier(target)))
            superuser.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY FILE_COPY").format(
                    sql.Identifier(target), sql.Identifier(source), sql.Identifier(OWNER_ROLE)
                )
            )

    yield (lambda: copy(name, kept)), (lambda: copy(kept, name))
    cluster.drop_database(kept)


def lose_marks(settings: Any) -> None:
    """As if Redis were flushed and the folder gone."""
    for account in StripeAccount.objects.all():
        redisclient.client().delete(f"push-epoch:{account.anchor.hex}")
        (Path(settings.PUSH_ANCHOR_DIR) / f"{account.anchor.hex}.epoch").unlink(missing_ok=True)


@pytest.mark.parametrize("marks", ["kept", "redis flushed", "all lost"])
def test_a_restored_backup_pushes_nothing_until_stripe_was_read_back(
    world, copies, settings, marks
):
    back_up, restore = copies
    world.mapping()
    world.use(5)
    world.push()
    back_up()
    lost_event = {"ts": world.now - timedelta(minutes=50)}
    world.use(3, **lost_event)
    world.push()
    assert world.at_stripe() == 8
    account = world.account()
    restore()
    if marks != "kept":
        redisclient.client().delete(f"push-epoch:{account.anchor.hex}")
    if marks == "all lost":
        lose_marks(settings)

    world.use(4)
    report = world.push()
    assert report.outcomes == {}
    assert world.at_stripe() == 8
    assert "Restored backup" in world.account().gate_reason
    assert plan_now(tenant_id=world.acme.pk, now=world.now)[0] == 0
    assert gate.rederive(now=world.now).read == 0  # summaries get time to settle
    assert AuditEntry.objects.filter(action="stripe_account.gate_closed").exists()

    world.move(minutes=31)
    done = gate.rederive(now=world.now)
    assert done.opened
    assert (done.adopted, done.held) == (1, 0)
    assert world.account().gate_closed_at is None
    world.settle()
    # 5 + 4 are in the restored ledger; 3 of the 8 at Stripe are not: nothing is sent twice.
    assert world.at_stripe() == 9
    world.use(3, **lost_event)  # the client sends the lost event again
    world.settle()
    assert world.at_stripe() == 12
    acknowledged = Push.objects.filter(customer_ref="c1", state="acknowledged")
    assert sum(each.delta for each in acknowledged) == Decimal(12)


def test_stripe_holding_more_than_the_restored_ledger_waits_for_a_person(world, copies):
    back_up, restore = copies
    world.mapping()
    world.use(5)
    world.push()
    back_up()
    world.use(3)
    world.push()
    restore()
    world.push()
    world.move(minutes=31)
    assert gate.rederive(now=world.now).held == 1
    world.settle()
    assert world.at_stripe() == 8, "nothing is taken back by itself"
    assert "Stripe holds 8, the ledger justifies 5" in PushCursor.objects.get().held_reason


def test_a_customer_that_the_backup_did_not_know_is_read_before_its_first_push(world, copies):
    back_up, restore = copies
    world.mapping()
    world.use(1)
    world.push()
    back_up()
    stripe_id = world.customer("c9")
    used = {"customer": "c9", "ts": world.now - timedelta(hours=2)}
    world.use(6, **used)
    world.push()
    restore()
    world.push()
    world.move(minutes=31)
    gate.rederive(now=world.now)
    assert world.account().gate_closed_at is None
    # Link and events come back when Stripe has forgotten the identifiers.
    world.move(days=2)
    CustomerLink.objects.create(
        tenant=world.acme,
        customer_ref="c9",
        stripe_customer_id=stripe_id,
        created_at=world.now,
        created_by="test",
    )
    world.use(6, **used)
    world.settle()
    assert world.at_stripe("c9") == 6
    assert gate.rederive(now=world.now).adopted == 1
    world.use(1, customer="c9")
    world.settle()
    assert world.at_stripe("c9") == 7


def test_an_identifier_that_stripe_knows_at_its_first_try_closes_the_gate(world):
    world.mapping()
    world.use(5)
    assert plan_now(tenant_id=world.acme.pk, now=world.now)[0] == 1
    planned = Push.objects.get()
    client_for("live").v1.billing.meter_events.create(
        {
            "event_name": "requests",
            "identifier": planned.identifier,
            "payload": {"stripe_customer_id": planned.stripe_customer_id, "value": "5"},
            "timestamp": int(planned.stamped_at.timestamp()),
        }
    )
    world.push()
    assert "identifiers that are new here" in world.account().gate_reason
    world.move(minutes=31)
    assert gate.rederive(now=world.now).opened
    world.settle()
    assert world.at_stripe() == 5


def test_marks_never_run_ahead_of_the_account_and_are_never_lowered(world, settings):
    world.mapping()
    world.use(5)
    world.push()
    account = world.account()
    assert account.epoch == anchors.highest(account.anchor) == 1
    anchors.raise_to(account.anchor, 0)
    assert anchors.highest(account.anchor) == 1
    lose_marks(settings)
    assert anchors.highest(account.anchor) is None
    world.use(1)
    world.push()
    assert world.at_stripe() == 6, "without a mark the same database goes on"


def test_a_lane_is_found_by_an_index_whatever_the_number_of_pushes(world):
    """Settling an outcome and reading back after a restore look at one lane's days each."""
    world.mapping()
    world.use(5)
    world.push()
    push = Push.objects.get()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        found = settling._same_day(push).filter(state="acknowledged")
        assert "push_acknowledged_by_lane" in found.explain()
        assert "push_unsettled" in found.model.objects.exclude(state="acknowledged").explain()
