"""What happens to pushes and periods reaches the webhooks of the tenant that it happens to."""

from typing import Any

import pytest

from billing.models import Delivery, Push
from billing.services import review
from billing.stripe.client import client_for
from tests.billing.test_webhooks import process, subscribed, told
from tests.builders.billing import World
from tests.builders.notices import told_to_acme, watch

EVENTS = "/v1/billing/meter_events"


@pytest.fixture
def watched(world: World) -> World:
    """Both tenants want to be told of everything."""
    watch(world, "push.*", "period.*")
    return world


def said(world: World) -> list[tuple[str, dict[str, Any]]]:
    """What acme is told, in order of time; globex is told nothing of it."""
    assert not Delivery.objects.filter(tenant=world.globex, event_type__contains="push.a").exists()
    return told_to_acme(world)


def test_a_push_is_told_when_stripe_takes_it(watched):
    watched.mapping()
    watched.use(5)
    watched.push()
    ((kind, data),) = said(watched)
    push = Push.objects.get()
    assert kind == "push.acknowledged"
    assert (data["pushId"], data["customerRef"], data["value"]) == (str(push.id), "c1", 5)
    assert (data["mode"], data["identifier"]) == ("live", push.identifier)


def test_a_push_is_told_when_stripe_refuses_it(watched):
    watched.mapping()
    watched.use(5)
    watched.sandbox.fault("bad_request", path=EVENTS, count=None)
    watched.settle()
    ((kind, data),) = said(watched)
    assert (kind, data["customerRef"]) == ("push.parked", "c1")
    assert data["reason"]


def test_a_push_is_told_when_only_a_person_can_settle_it_and_again_when_one_did(watched):
    watched.mapping()
    watched.use(5)
    watched.push()
    first = Push.objects.get()
    watched.use(4)
    client_for("live").v1.billing.meter_events.create(
        {
            "event_name": "requests",
            "identifier": first.identifier.rsplit("-", 1)[0] + "-2",
            "timestamp": int(watched.now.timestamp()),
            "payload": {"stripe_customer_id": first.stripe_customer_id, "value": "4"},
        }
    )
    watched.push()
    second = Push.objects.get(sequence=2)
    assert [kind for kind, _ in said(watched)] == ["push.acknowledged", "push.needs_review"]
    watched.move(minutes=1)
    review.settle_push(
        tenant_id=watched.acme.pk,
        push_id=second.id,
        verdict="acknowledged",
        note="the summary has it",
        actor="ada",
        now=watched.now,
    )
    kind, data = said(watched)[-1]
    assert (kind, data["pushId"]) == ("push.acknowledged", str(second.id))


def test_every_tenant_of_a_halted_account_is_told_once(watched):
    watched.mapping()
    watched.use(5)
    watched.sandbox.fault("unauthorized", path=EVENTS, count=None)
    watched.push()
    watched.move(hours=1)
    watched.push()
    ((kind, data),) = said(watched)
    assert (kind, data["account"], data["mode"]) == ("push.account_halted", "default", "live")
    assert data["reason"]
    assert not Delivery.objects.filter(tenant=watched.globex).exists(), "it pushes nothing there"


def test_a_period_is_told_when_it_closes_and_when_it_is_frozen(watched):
    subscription, _ = subscribed(watched)
    told("customer.subscription.created", {"id": subscription, "object": "subscription"})
    process(watched)
    watched.move(days=30, minutes=30)
    invoices = client_for("live").v1.invoices.list({"subscription": subscription}).data
    draft = next(each for each in invoices if each["status"] == "draft")
    told("invoice.created", {"id": draft["id"], "object": "invoice"}, 2)
    process(watched)
    watched.move(hours=3)
    for number in (3, 4):
        told("invoice.finalized", {"id": draft["id"], "object": "invoice"}, number)
    process(watched)
    found = [(kind, data["before"], data["customerRef"]) for kind, data in said(watched)]
    assert found == [("period.closing", "open", "c1"), ("period.frozen", "closing", "c1")]
