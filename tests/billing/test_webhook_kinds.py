"""Every listed kind of Stripe's events has its effect here, each shown once."""

from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from billing.models import PriceVersion, WebhookInbox
from billing.stripe.client import client_for
from counters.models import BillingCalendar, BillingPeriod
from counters.selectors import period_of, period_state
from tests.billing.test_mirror import fresh, mirrored
from tests.billing.test_webhooks import process, subscribed, told
from tests.builders.billing import World

_numbers = count(1)


def hear(world: World, type_: str, kind: str, identifier: str) -> str:
    """The event is delivered twice and processed; what the inbox says came of it."""
    number = next(_numbers)
    for _ in range(2):
        told(type_, {"id": identifier, "object": kind}, number)
    process(world)
    stored = WebhookInbox.objects.get(event_id=f"evt_told{number}")
    assert stored.status == "processed", stored.outcome
    return stored.outcome


def heard(world: World, type_: str, kind: str, identifier: str) -> dict[str, Any]:
    """The same; what the mirror holds then, which is what a read of Stripe says."""
    hear(world, type_, kind, identifier)
    document = mirrored(kind, identifier)
    assert document == fresh(kind, identifier)
    return document


@pytest.fixture
def ended(world: World) -> tuple[World, str, str]:
    """A month of a subscription is over; its first metered invoice is a draft."""
    subscription, _ = subscribed(world)
    hear(world, "customer.subscription.created", "subscription", subscription)
    world.use(5, ts=world.now)
    world.settle()
    world.move(days=30, minutes=30)
    invoices = client_for("live").v1.invoices.list({"subscription": subscription}).data
    return world, subscription, next(each.id for each in invoices if each["status"] == "draft")


def state_of(world: World) -> str:
    start = BillingPeriod.objects.get(tenant=world.acme).span.lower
    return period_state(tenant_id=world.acme.pk, customer_ref="c1", period_start=start)


def test_invoices_from_the_draft_to_a_dispute(ended):
    world, _, invoice = ended
    client = client_for("live").v1
    assert heard(world, "invoice.created", "invoice", invoice)["status"] == "draft"
    assert state_of(world) == "closing"
    world.sandbox.configure(invoice_payment="fail")
    world.move(hours=3)
    assert heard(world, "invoice.finalized", "invoice", invoice)["status"] == "open"
    assert state_of(world) == "frozen"
    failed = heard(world, "invoice.payment_failed", "invoice", invoice)
    assert (failed["status"], failed["attempt_count"]) == ("open", 1)
    client.invoices.pay(invoice)
    assert heard(world, "invoice.paid", "invoice", invoice)["status"] == "paid"
    live = str(world.sandbox.journal()[0]["world"])
    order = {"invoice": invoice, "world": live, "reason": "fraudulent"}
    dispute = world.sandbox.control("POST", "disputes", order)["id"]
    found = heard(world, "charge.dispute.created", "dispute", dispute)
    assert (found["status"], found["reason"], found["amount"]) == (
        "needs_response", "fraudulent", 50,
    )  # fmt: skip
    assert state_of(world) == "frozen", "money that is argued about is billed usage all the same"


def test_a_voided_invoice_leaves_its_period_frozen(ended):
    world, _, invoice = ended
    world.sandbox.configure(invoice_payment="fail")
    world.move(hours=3)
    hear(world, "invoice.finalized", "invoice", invoice)
    client_for("live").v1.invoices.void_invoice(invoice)
    assert heard(world, "invoice.voided", "invoice", invoice)["status"] == "void"
    assert state_of(world) == "frozen"


def test_an_invoice_that_was_voided_before_it_was_heard_of_freezes_its_period_all_the_same(ended):
    """Handlers read what is true now, and only a final invoice can be voided."""
    world, _, invoice = ended
    world.sandbox.configure(invoice_payment="fail")
    world.move(hours=3)
    client_for("live").v1.invoices.void_invoice(invoice)
    assert heard(world, "invoice.finalized", "invoice", invoice)["status"] == "void"
    assert state_of(world) == "frozen"
    world.use(3, ts=world.now - timedelta(days=2))
    world.settle()
    assert world.at_stripe() == 5, "no usage goes to a period whose invoice was final"


def test_subscriptions_that_change_pause_and_end(world):
    subscription, _ = subscribed(world)
    client = client_for("live").v1.subscriptions
    assert "calendar" in hear(world, "customer.subscription.created", "subscription", subscription)
    period = period_of(tenant_id=world.acme.pk, customer_ref="c1", instant=world.now)
    assert period.start == world.now
    client.update(subscription, {"metadata": {"plan": "large"}})
    updated = heard(world, "customer.subscription.updated", "subscription", subscription)
    assert updated["metadata"] == {"plan": "large"}
    client.update(subscription, {"pause_collection": {"behavior": "void"}})
    paused = heard(world, "customer.subscription.paused", "subscription", subscription)
    assert paused["pause_collection"]["behavior"] == "void"
    client.cancel(subscription)
    outcome = hear(world, "customer.subscription.deleted", "subscription", subscription)
    assert "calendar stays" in outcome
    assert mirrored("subscription", subscription)["status"] == "canceled"
    assert BillingCalendar.objects.get().source == "stripe"


def test_prices_products_customers_and_meters(world):
    _, price = subscribed(world)
    client = client_for("live").v1
    customer = world.customers[world.acme.pk, "c1", "live"]
    product = str(client.prices.retrieve(price).product)
    hear(world, "price.created", "price", price)
    client.prices.update(price, {"currency_options": {"eur": {"unit_amount": 9}}})
    hear(world, "price.updated", "price", price)
    assert PriceVersion.objects.filter(price_id=price).count() == 2
    client.products.update(product, {"name": "Calls"})
    assert heard(world, "product.updated", "product", product)["name"] == "Calls"
    client.customers.update(customer, {"name": "Initech"})
    assert heard(world, "customer.updated", "customer", customer)["name"] == "Initech"
    meter = client.billing.meters.list({}).data[0].id
    client.billing.meters.deactivate(meter)
    outcome = hear(world, "billing.meter.deactivated", "billing.meter", meter)
    assert outcome == "meter requests is inactive; 1 active mappings push to it"
    client.billing.meters.reactivate(meter)
    assert "is active" in hear(world, "billing.meter.reactivated", "billing.meter", meter)
