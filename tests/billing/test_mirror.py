"""The mirror says what Stripe says, whatever order its events come in; prices are guarded."""

import itertools
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from djstripe import models as dj

from billing.models import PriceVersion, PushCursor, WebhookInbox
from billing.services import mirroring
from billing.stripe import mirror, readback, reading
from billing.stripe.client import client_for
from tests.billing.test_webhooks import process, subscribed, told
from tests.builders.billing import World, at

NAMES = {
    "product": "product",
    "price": "price",
    "customer": "customer",
    "customer.subscription": "subscription",
    "invoice": "invoice",
    "billing.meter": "billing.meter",
}


def fresh(kind: str, identifier: str) -> dict[str, Any]:
    """What a read of Stripe says now."""
    return mirror.plain_document(
        reading.retrieve(mode="live", account="default", kind=kind, object_id=identifier)
    )


def mirrored(kind: str, identifier: str) -> dict[str, Any]:
    """What the mirror says, without our own mark."""
    document = mirror.document_of(kind, identifier) or {}
    document.pop(mirror.READ_AT, None)
    return document


def objects(world: World, subscription: str, price: str) -> dict[str, str]:
    """One object of each kind, by the prefix of its events."""
    client = client_for("live").v1
    customer = world.customers[world.acme.pk, "c1", "live"]
    return {
        "product": str(client.prices.retrieve(price).product),
        "price": price,
        "customer": customer,
        "customer.subscription": subscription,
        "invoice": client.invoices.create({"customer": customer}).id,
        "billing.meter": client.billing.meters.list({}).data[0].id,
    }


def test_stripe_sync_fills_the_mirror_and_says_what_it_read(world, capsys):
    subscription, price = subscribed(world)
    client = client_for("live").v1
    tiered = client.prices.create(
        {
            "currency": "usd",
            "product": client.prices.retrieve(price).product,
            "billing_scheme": "tiered",
            "tiers_mode": "graduated",
            "tiers": [
                {"up_to": 100, "unit_amount_decimal": "1.5"},
                {"up_to": "inf", "unit_amount_decimal": "1"},
            ],
            "recurring": {
                "interval": "month",
                "usage_type": "metered",
                "meter": client.billing.meters.list({}).data[0].id,
            },
        }
    ).id
    call_command("stripe_sync")
    call_command("stripe_sync")
    said = capsys.readouterr().out
    assert "2  live default prices mirrored" in said
    assert "calendar follows the subscription" in said
    own = reading.own_account(mode="live")
    counts = mirror.counts(account_id=own, mode="live")
    assert counts["price"] == 2
    assert counts["subscription_item"] == 1
    assert counts["customer"] == 2
    assert [tier["unit_amount_decimal"] for tier in mirrored("price", tiered)["tiers"]] == [
        "1.5",
        "1",
    ]
    item = dj.SubscriptionItem.objects.get()
    assert (item.price.id, item.subscription_id) == (price, subscription)
    assert mirror.items_of_price(price)[0]["customer"] == item.subscription.customer_id
    assert {each["id"] for each in mirror.prices(account_id=own, mode="live")} == {price, tiered}
    assert PriceVersion.objects.filter(price_id=price).count() == 1


def test_events_of_six_kinds_in_any_order_and_doubled_leave_what_a_read_says(world):
    subscription, price = subscribed(world)
    six = list(objects(world, subscription, price).items())
    client = client_for("live").v1
    orders = list(itertools.permutations(range(6)))
    step = 1 if os.environ.get("MIRROR_ALL_ORDERS") else 103
    for number, order in enumerate(orders[::step]):
        dj.Product.objects.all().delete()
        dj.Customer.objects.all().delete()
        client.products.update(dict(six)["product"], {"name": f"Requests {number}"})
        client.prices.update(price, {"nickname": f"n{number}"})
        client.customers.update(dict(six)["customer"], {"name": f"c{number}"})
        for position in order:
            prefix, identifier = six[position]
            for _ in range(2):
                told(
                    f"{prefix}.updated",
                    {"id": identifier, "object": NAMES[prefix], "name": "never believed"},
                    1000 + number * 10 + position,
                )
        process(world)
        for prefix, identifier in six[:5]:
            kind = NAMES[prefix]
            assert mirrored(kind, identifier) == fresh(kind, identifier), (order, prefix)
    assert not WebhookInbox.objects.exclude(status="processed").exists()


def test_an_invoice_of_many_lines_is_read_whole(world):
    """What Stripe lists of an invoice are its first lines; a tier may have one of its own."""
    world.sandbox.configure(graduated_lines="per_tier")
    _, price = subscribed(world)
    client = client_for("live").v1
    known = client.prices.retrieve(price)
    tiered = client.prices.create(
        {
            "currency": "usd",
            "product": str(known.product),
            "billing_scheme": "tiered",
            "tiers_mode": "graduated",
            "tiers": [
                *({"up_to": number, "unit_amount": 100 - number} for number in range(1, 12)),
                {"up_to": "inf", "unit_amount": 1},
            ],
            "recurring": {
                "interval": "month",
                "usage_type": "metered",
                "meter": str(known.recurring.meter),
            },
        }
    ).id
    customer = world.customer("many")
    client.subscriptions.create({"customer": customer, "items": [{"price": tiered}]})
    world.use(15, customer="many", ts=world.now)
    world.settle()
    world.move(days=30, hours=3)
    found = readback.invoices_of(mode="live", account="default", customer=customer, since=at(1))
    lines = [line for line in found.lines if line.price_id == tiered]
    assert len(lines) == 12
    assert sum(line.quantity for line in lines) == 15
    assert {line.subscription_item_id for line in lines} != {""}


def test_an_older_read_never_wins_over_a_newer_one(world):
    _, price = subscribed(world)
    client = client_for("live").v1
    older = reading.retrieve(mode="live", account="default", kind="price", object_id=price)
    client.prices.update(price, {"nickname": "newer"})
    newer = reading.retrieve(mode="live", account="default", kind="price", object_id=price)
    at = datetime.now(UTC)
    for found, read_at in ((newer, at), (older, at - timedelta(seconds=1))):
        mirroring.take(
            "price", found, mode="live", account="default", read_at=read_at, now=world.now
        )
    assert mirrored("price", price)["nickname"] == "newer"


def test_what_was_deleted_at_stripe_is_marked_and_kept(world):
    customer = world.customers[world.acme.pk, "c1", "live"]
    told("customer.updated", {"id": customer, "object": "customer"})
    process(world)
    client_for("live").v1.customers.delete(customer)
    told("customer.deleted", {"id": customer, "object": "customer"}, 2)
    process(world)
    assert mirrored("customer", customer)["deleted"] is True
    assert not WebhookInbox.objects.exclude(status="processed").exists()


@pytest.mark.parametrize("billing_mode", ["classic", "flexible"])
def test_a_price_that_leaves_a_running_period_raises_the_guard(world, billing_mode):
    subscription, price = subscribed(world, billing_mode={"type": billing_mode})
    told("customer.subscription.created", {"id": subscription, "object": "subscription"})
    process(world)
    world.use(7, ts=world.now)
    world.settle()
    client = client_for("live").v1
    document = client.prices.retrieve(price)
    other = client.prices.create(
        {
            "currency": "usd",
            "unit_amount": 20,
            "product": document.product,
            "recurring": {
                "interval": "month",
                "usage_type": "metered",
                "meter": document.recurring.meter,
            },
        }
    ).id
    item = client.subscriptions.retrieve(subscription)["items"]["data"][0]["id"]
    client.subscription_items.update(item, {"price": other})
    told("customer.subscription.updated", {"id": subscription, "object": "subscription"}, 2)
    process(world)
    outcome = WebhookInbox.objects.get(event_id="evt_told2").outcome
    assert "price_change_loss" in outcome
    cursor = PushCursor.objects.get()
    if billing_mode == "classic":
        assert "classic: usage before it is dropped" in outcome
        assert cursor.held_at == world.now
        assert "7 units pushed before it. 1. Set the old price again" in cursor.held_reason
    else:
        assert cursor.held_at is None
    # Told again, it is not raised again.
    told("customer.subscription.updated", {"id": subscription, "object": "subscription"}, 3)
    process(world)
    assert "price_change_loss" not in WebhookInbox.objects.get(event_id="evt_told3").outcome
