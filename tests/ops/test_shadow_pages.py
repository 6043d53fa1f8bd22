"""Shadow parity, the guarded cut-over, and the check of a mapping before it is saved."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse

from billing.models import CustomerLink, PriceMapping, Push, StripeAccount
from billing.services import parity, prices
from billing.services.parity import Target
from billing.stripe.client import client_for
from stripemeter.lib import clock
from stripemeter.tenancy.models import AuditEntry, Membership
from tests.ops.conftest import Office, use

PRICE = {
    "object": "price",
    "active": True,
    "billing_scheme": "per_unit",
    "currency": "usd",
    "unit_amount": 10,
    "unit_amount_decimal": "10",
    "recurring": {"interval": "month", "interval_count": 1, "usage_type": "metered"},
}


@pytest.fixture
def rehearsed(office: Office, settings: Any) -> PriceMapping:
    """Ten days on which live and shadow were told the same; both prices are known."""
    settings.STRIPE_SECRET_KEY = "sk_live_for_the_test"
    now = clock.now()
    mapping = PriceMapping.objects.get(pk=office.mapping())
    PriceMapping.objects.filter(pk=mapping.pk).update(
        shadow=True, shadow_stripe_account="default", shadow_price_id="price_test"
    )
    StripeAccount.objects.get_or_create(account="default", mode="test")
    for mode in ("live", "test"):
        CustomerLink.objects.create(
            tenant=office.acme, customer_ref="acme-customer", mode=mode,
            stripe_customer_id=f"cus_{mode}", created_at=now, created_by="test",
        )  # fmt: skip
    for back in range(1, 11):
        for mode in ("live", "test"):
            push(mapping, mode, back)
    for mode, price in (("live", "price_acme"), ("test", "price_test")):
        prices.store_price(account="default", mode=mode, document={**PRICE, "id": price}, now=now)
    mapping.refresh_from_db()
    return mapping


def push(mapping: PriceMapping, mode: str, back: int, **fields: Any) -> Push:
    now = clock.now()
    moment = now - timedelta(days=back)
    return Push.objects.create(
        tenant_id=mapping.tenant_id, id=uuid4(), mapping_id=mapping.pk,
        customer_ref="acme-customer", mode=mode, slice_day=moment.date(),
        account=StripeAccount.objects.get(account="default", mode=mode), semantics="increment",
        period_start=moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0),
        target="api_calls", stripe_customer_id=f"cus_{mode}",
        identifier=f"{mode}-{uuid4()}", value=Decimal(3), delta=Decimal(3), stamped_at=moment,
        not_before=now, created_at=now,
        **{"state": "acknowledged", "sequence": back, **fields},
    )  # fmt: skip


def test_clean_days_are_counted_back_to_the_first_that_differs(office, rehearsed):
    now = clock.now()
    found = parity.parity(mapping=rehearsed, now=now)
    assert (found.clean_days, found.uncovered) == (10, 0)
    push(rehearsed, "live", 4, sequence=99)
    assert parity.parity(mapping=rehearsed, now=now).clean_days == 3
    push(rehearsed, "test", 4, sequence=99, state="parked")
    assert parity.parity(mapping=rehearsed, now=now).days[4].unsettled == 1


def test_a_cut_over_takes_two_people_and_the_metrics_name(office, rehearsed):
    page = reverse("ops:mapping-shadow", args=[rehearsed.pk])
    asker, owner = office.sign_in("owner", name="asker"), office.sign_in("owner", name="owner2")
    shown = asker.get(page)
    assert shown.status_code == 200
    assert "10</span> clean days in a row" in shown.content.decode()
    ask = reverse("ops:mapping-cutover-request", args=[rehearsed.pk])
    approve = reverse("ops:mapping-cutover-approve", args=[rehearsed.pk])
    assert asker.post(ask, {"typed": "something"}).status_code == 400
    assert asker.post(approve, {"typed": "api_calls"}).status_code == 409, "nobody asked"
    assert asker.post(ask, {"typed": "api_calls", "priceId": "price_unknown"}).status_code == 409
    assert asker.post(ask, {"typed": "api_calls"}).status_code == 302
    assert asker.post(approve, {"typed": "api_calls"}).status_code == 403, "four eyes"
    assert owner.post(approve, {"typed": "api_calls"}).status_code == 302
    before, after = PriceMapping.objects.order_by("created_at")
    tomorrow = parity.cut_at(rehearsed, now=clock.now())
    assert (before.effective_to, after.effective_from) == (tomorrow, tomorrow)
    assert (before.shadow, before.cutover, after.active) == (False, None, True)
    actions = set(AuditEntry.objects.values_list("action", flat=True))
    assert {"mapping.cutover_requested", "mapping.cut_over"} <= actions
    assert office.sign_in("viewer").post(ask, {"typed": "api_calls"}).status_code == 403


def test_a_cut_over_to_a_meter_that_adds_up_otherwise_is_not_asked_for(office, rehearsed, sandbox):
    client_for("live").v1.billing.meters.create(
        {
            "display_name": "levels",
            "event_name": "levels",
            "default_aggregation": {"formula": "last"},
        }
    )
    ask = reverse("ops:mapping-cutover-request", args=[rehearsed.pk])
    form = {"typed": "api_calls", "stripeMeterEventName": "levels"}
    answer = office.sign_in("owner").post(ask, form)
    assert answer.status_code == 400
    rehearsed.refresh_from_db()
    assert rehearsed.cutover is None


def conditions(mapping, target, now):
    sides = parity.parity(mapping=mapping, now=now)
    return parity.conditions(mapping=mapping, target=target, found=sides)


def test_another_tariff_or_an_open_push_stops_a_cut_over(office, rehearsed):
    now = clock.now()
    target = Target("default", "price_acme", None)
    assert all(each.holds for each in conditions(rehearsed, target, now))
    prices.store_price(
        account="default", mode="live",
        document={**PRICE, "id": "price_acme", "unit_amount": 11, "unit_amount_decimal": "11"},
        now=now + timedelta(seconds=1),
    )  # fmt: skip
    push(rehearsed, "live", 0, state="pending")
    missing = {each.text for each in conditions(rehearsed, target, now) if not each.holds}
    assert missing == {
        "The live price charges what the rehearsed one did",
        "Nothing is open, parked or in review",
    }


def test_the_check_of_a_mapping_previews_real_usage_and_stores_nothing(office):
    use(office.acme, "acme-customer", 25)
    use(office.globex, "globex-customer", 999)
    form = {
        "metric": "api_calls", "aggregation": "sum", "pushSemantics": "increment",
        "stripeAccount": "default", "priceId": "price_new", "unitFactor": "10",
        "valueDecimals": "0", "active": "on",
    }  # fmt: skip
    url = reverse("ops:mapping-check")
    maintainer = office.sign_in("maintainer")
    shown = maintainer.post(url, form).content.decode()
    assert "price_new is not in the mirror" in shown
    assert "acme-customer" in shown
    assert "globex" not in shown
    assert not PriceMapping.objects.exists()
    wrong = maintainer.post(url, {**form, "aggregation": "max", "priceId": "nonsense"})
    assert "Price: must match" in wrong.content.decode()
    assert office.sign_in("viewer").post(url, form).status_code == 403


def test_a_person_of_another_tenant_sees_neither_side(office, rehearsed):
    user = get_user_model().objects.create_user("globex-owner", password="x", is_staff=True)
    Membership.objects.create(tenant=office.globex, user=user, role="owner")
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get(reverse("ops:mapping-shadow", args=[rehearsed.pk])).status_code == 404
