"""The webhook endpoint believes signatures only, stores once, and has effect at most once."""

import hashlib
import hmac
import itertools
import json
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.db import connections
from django.http import HttpResponse
from django.test import Client, RequestFactory

from billing import selectors
from billing.models import PriceMapping, Push, PushCursor, StripeAccount, WebhookInbox
from billing.services import inbox, review
from billing.services.sync import sync_subscriptions
from billing.stripe import reading
from billing.stripe.client import client_for
from billing.stripe.errors import StripeRefused, all_rows
from counters.models import BillingCalendar, BillingPeriod
from counters.selectors import period_of, period_state
from stripemeter.lib import clock
from stripemeter.middleware import RequestEdgeMiddleware
from stripemeter.tenancy.models import AuditEntry
from tests.builders.billing import World, at
from tests.builders.tenancy import make_caller

URL = "/webhooks/stripe"


def sign(body: bytes, *, t: Any = None, secret: str | None = None, scheme: str = "v1") -> str:
    stamp = int(clock.now().timestamp()) if t is None else t
    key = (secret or settings.STRIPE_WEBHOOK_SECRETS[0]).encode()
    digest = hmac.new(key, f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={stamp},{scheme}={digest}"


def event(**fields: Any) -> dict[str, Any]:
    return {
        "id": "evt_1",
        "object": "event",
        "type": "invoice.finalized",
        "created": 1_700_000_000,
        "livemode": True,
        "data": {"object": {"id": "in_1", "object": "invoice", "customer": "cus_S1"}},
        **fields,
    }


def post(body: bytes | dict[str, Any], signature: str | None = None, path: str = URL) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    header = sign(raw) if signature is None else signature
    return Client().post(path, raw, "application/json", headers={"Stripe-Signature": header})


def test_a_signed_event_is_stored_and_answered(db):
    assert post(event()).status_code == 200
    stored = WebhookInbox.objects.get()
    assert (stored.event_id, stored.status, stored.kind) == ("evt_1", "received", "snapshot")
    assert json.loads(bytes(stored.body)) == event()


def test_both_paths_answer_without_redirect(db):
    for number, path in enumerate((URL, f"{URL}/", f"{URL}/thin", f"{URL}/thin/")):
        assert post(event(id=f"evt_{number}"), path=path).status_code == 200
    assert Client().get(URL).status_code == 405


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "hello",
        "v1=" + "0" * 64,
        "t=1e400,v1=" + "0" * 64,
        "t=٣,v1=" + "0" * 64,
        "v1=0," * 20_000,
        pytest.param(lambda body: sign(body, scheme="v0"), id="only v0"),
        pytest.param(lambda body: sign(body, secret="whsec_wrong"), id="wrong secret"),
        pytest.param(lambda body: sign(body, t=int(clock.now().timestamp()) - 600), id="old"),
        pytest.param(lambda body: sign(body, t=int(clock.now().timestamp()) + 3600), id="future"),
        pytest.param(lambda body: sign(body).upper().replace("T=", "t=").replace("V1", "v1")),
        pytest.param(lambda body: sign(body)[:-32], id="truncated"),
        pytest.param(lambda body: sign(body + b" "), id="altered"),
        pytest.param(lambda body: sign(json.dumps(json.loads(body), indent=1).encode())),
    ],
)
def test_anything_but_a_fresh_signature_over_the_raw_bytes_is_refused(db, signature):
    raw = json.dumps(event()).encode()
    header = signature(raw) if callable(signature) else signature
    answer = post(raw, header)
    assert answer.status_code in {400, 431}
    assert answer.json()["code"] in {"invalid_signature", "headers_too_large"}
    assert not WebhookInbox.objects.exists()


def test_an_unsigned_post_is_refused_without_touching_the_database(db, django_assert_num_queries):
    caller = make_caller("acme")
    # A tenant's request leaves its mark on the session; even that is not touched first.
    assert Client().get("/v1/mappings", headers=caller.headers).status_code == 200
    # Past the test client, whose end of request sets the session back by a query.
    edge = RequestEdgeMiddleware(lambda _: HttpResponse())
    request = RequestFactory().post(URL, b"{" * 1000, "application/json")
    with django_assert_num_queries(0):
        assert edge(request).status_code == 400


def test_one_right_signature_of_two_is_enough_while_a_secret_rotates(db):
    raw = json.dumps(event()).encode()
    wrong = sign(raw, secret="whsec_old").partition("v1=")[2]
    assert post(raw, f"{sign(raw)},v1={wrong}").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"id":',
        b"",
        b"[]",
        b"null",
        b'{"id":1,"object":"event","type":"x","data":{"object":{}}}',
        b'{"id":"evt_x1","object":"event","type":"invoice.finalized","data":null}',
        b'{"id":"evt_x2","object":"event","type":"invoice.finalized","data":{"object":[]}}',
        b'{"id":"evt_x3","object":"event","type":"x","data":{"object":{"amount":NaN}}}',
        b'{"id":"evt_x4\\u0000","object":"event","type":"x","data":{"object":{}}}',
        b'{"id":"evt_x5","id":"evt_x6","object":"event","type":"x","data":{"object":{}}}',
        json.dumps(event()).encode().replace(b"in_1", b"in_\xe9"),
    ],
)
def test_signed_nonsense_is_refused(db, body):
    assert post(body).status_code == 400
    assert not WebhookInbox.objects.exists()


def test_a_signed_body_beyond_the_limit_is_refused(db):
    assert post(json.dumps(event(pad="x" * 5_242_880)).encode()).status_code == 413


def test_ten_parallel_deliveries_are_stored_once(transactional_db):
    answers = []

    def deliver() -> None:
        answers.append(post(event()).status_code)
        connections.close_all()

    threads = [threading.Thread(target=deliver) for _ in range(10)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert answers == [200] * 10
    assert WebhookInbox.objects.get().deliveries == 10


def test_the_same_id_with_other_content_is_flagged_and_the_first_stands(db):
    post(event())
    other = event(data={"object": {"id": "in_999", "object": "invoice"}})
    assert post(other).status_code == 200
    stored = WebhookInbox.objects.get()
    assert stored.mismatches == 1
    assert json.loads(bytes(stored.body))["data"]["object"]["id"] == "in_1"


def test_unknown_types_accounts_and_keyless_modes_have_no_effect(db, settings):
    StripeAccount.objects.create(account="acct_known", mode="live")
    settings.STRIPE_TEST_SECRET_KEY = ""
    post(event(id="evt_a", type="brand.new.type"))
    post(event(id="evt_b", account="acct_unknown"))
    post(event(id="evt_c", livemode=False))
    post(event(id="evt_d", livemode=None))
    assert inbox.process_inbox(now=clock.now()) == 4
    found = dict(WebhookInbox.objects.values_list("event_id", "status"))
    assert found == {
        "evt_a": "ignored",
        "evt_b": "unmatched",
        "evt_c": "unmatched",
        "evt_d": "unmatched",
    }
    assert not BillingPeriod.objects.exists()


# --- effects -----------------------------------------------------------------------------


def subscribed(world: World, **fields: Any) -> tuple[str, str]:
    """A metered subscription of c1 at Stripe and the mapping of its price."""
    client = client_for("live")
    meter = client.v1.billing.meters.list({}).data[0].id
    product = client.v1.products.create({"name": "Requests"}).id
    price = client.v1.prices.create(
        {
            "currency": "usd",
            "unit_amount": 10,
            "product": product,
            "recurring": {"interval": "month", "usage_type": "metered", "meter": meter},
        }
    ).id
    subscription = client.v1.subscriptions.create(
        {
            "customer": world.customers[world.acme.pk, "c1", "live"],
            "items": [{"price": price}],
            **fields,
        }
    ).id
    world.mapping(price_id=price)
    return subscription, price


def told(type_: str, object_: dict[str, Any], number: int = 1, **fields: Any) -> None:
    """An event is stored as if it had been delivered."""
    body = json.dumps(
        event(id=f"evt_told{number}", type=type_, data={"object": object_}, **fields)
    ).encode()
    now = fields.pop("now", clock.now())
    assert post(body, sign(body)).status_code == 200
    assert now


def process(world: World) -> None:
    WebhookInbox.objects.update(not_before=world.now)
    inbox.process_inbox(now=world.now)


def test_a_subscription_cuts_the_customers_time_and_its_invoice_freezes_it(world):
    subscription, _ = subscribed(world)
    world.use(5)
    told("customer.subscription.created", {"id": subscription, "object": "subscription"})
    process(world)
    assert "calendar follows the subscription" in WebhookInbox.objects.get().outcome
    period = period_of(tenant_id=world.acme.pk, customer_ref="c1", instant=world.now)
    assert period.start == world.now
    world.use(3, ts=world.now)
    world.settle()
    world.move(days=30, minutes=30)
    invoices = client_for("live").v1.invoices.list({"subscription": subscription}).data
    draft = next(each for each in invoices if each["status"] == "draft")
    told("invoice.created", {"id": draft["id"], "object": "invoice"}, 2)
    process(world)
    assert (
        period_state(tenant_id=world.acme.pk, customer_ref="c1", period_start=period.start)
        == "closing"
    )
    world.move(hours=3)
    told("invoice.finalized", {"id": draft["id"], "object": "invoice"}, 3)
    process(world)
    assert (
        period_state(tenant_id=world.acme.pk, customer_ref="c1", period_start=period.start)
        == "frozen"
    )
    line = client_for("live").v1.invoices.retrieve(draft["id"])["lines"]["data"][0]
    assert Decimal(str(line["quantity_decimal"] or line["quantity"])) == 3


def test_six_events_in_any_order_and_doubled_end_in_the_same_state(world):
    subscription, _ = subscribed(world)
    told("customer.subscription.created", {"id": subscription, "object": "subscription"})
    process(world)
    period = period_of(tenant_id=world.acme.pk, customer_ref="c1", instant=world.now)
    world.use(3, ts=world.now)
    world.settle()
    world.move(days=30, hours=3)
    invoice = next(
        each["id"]
        for each in client_for("live").v1.invoices.list({"subscription": subscription}).data
        if each["status"] != "draft"
    )
    six = [
        ("invoice.created", invoice, "invoice"),
        ("invoice.finalized", invoice, "invoice"),
        ("invoice.paid", invoice, "invoice"),
        ("customer.subscription.updated", subscription, "subscription"),
        ("customer.subscription.created", subscription, "subscription"),
        ("invoice.updated", invoice, "invoice"),
    ]
    orders = list(itertools.permutations(range(6)))[::97]
    for number, order in enumerate(orders):
        BillingPeriod.objects.all().delete()
        for position in order:
            type_, identifier, object_ = six[position]
            name = number * 10 + position + 100
            for _ in range(2):
                told(type_, {"id": identifier, "object": object_}, name)
        process(world)
        state = period_state(tenant_id=world.acme.pk, customer_ref="c1", period_start=period.start)
        assert state == "frozen", order
    assert not WebhookInbox.objects.exclude(status="processed").exists()


def test_nothing_is_pushed_into_a_frozen_period(world):
    world.mapping()
    world.use(5)
    BillingPeriod.objects.create(
        tenant=world.acme,
        customer_ref="c1",
        span=(at(1, 0), at(1, 0, month=12)),
        state="frozen",
    )
    world.push()
    assert not Push.objects.exists()


def reported(world: World, code: str) -> Any:
    """A push that Stripe took and then rejected; its thin event is delivered three times."""
    world.mapping()
    world.use(5)
    world.sandbox.fault("async_reject", options={"code": code})
    world.push()
    assert Push.objects.get().state == "acknowledged"
    assert world.at_stripe() == 0
    world.move(minutes=1)
    (report,) = client_for("live").v2.core.events.list({}).data
    body = json.dumps(
        {
            "id": report.id,
            "object": "v2.core.event",
            "type": report.type,
            "created": "2026-11-20T12:00:00Z",
            "livemode": True,
            "related_object": {"id": "mtr_1", "type": "billing.meter", "url": "http://evil/"},
        }
    ).encode()
    for _ in range(3):
        assert post(body, path=f"{URL}/thin").status_code == 200
    process(world)
    stored = WebhookInbox.objects.get()
    assert (stored.status, stored.outcome) == ("processed", "1 of 1 named pushes rejected")
    rejected = Push.objects.get()
    assert (rejected.state, rejected.error_code) == ("rejected", code)
    assert rejected.evidence["webhookEvent"] == report.id
    return report


def test_an_asynchronous_rejection_reopens_the_push_it_names(world):
    report = reported(world, "meter_event_customer_not_found")
    assert report.type == "v1.billing.meter.error_report_triggered"
    world.settle()
    assert world.at_stripe() == 5
    assert Push.objects.filter(state="acknowledged").count() == 1
    assert PushCursor.objects.get().rejections == 1


def test_no_meter_found_takes_the_push_back_and_holds_it_until_there_is_one(world):
    report = reported(world, "no_meter")
    assert report.type == "v1.billing.meter.no_meter_found"
    world.use(2)
    world.settle()
    cursor = PushCursor.objects.get()
    assert cursor.held_reason == "no_meter: There is no meter for the event name."
    assert (world.at_stripe(), Push.objects.count()) == (0, 1), "nothing is tried in vain"
    review.release_cursors(
        tenant_id=world.acme.pk, mapping_id=cursor.mapping_id, mode="live",
        actor="test", now=world.now,
    )  # fmt: skip
    world.settle()
    assert world.at_stripe() == 7
    assert selectors.slices_that_disagree() == []


def test_the_poll_finds_what_no_webhook_brought_and_stores_nothing_twice(world):
    world.mapping()
    world.use(1)
    world.push()
    subscribed_events = client_for("live").v1.events.list({"limit": 100}).data
    assert inbox.poll_events(now=world.now) == len(subscribed_events) > 0
    assert inbox.poll_events(now=world.now + timedelta(minutes=1)) == 0
    again = subscribed_events[0].to_dict()
    assert post(again).status_code == 200
    assert WebhookInbox.objects.filter(event_id=again["id"]).count() == 1


def test_of_two_mapped_prices_the_same_one_sets_the_calendar_every_time(world):
    """Whichever row the database gives first: a calendar that flips re-cuts what was billed."""
    subscription, price = subscribed(world)
    client = client_for("live").v1
    known = client.prices.retrieve(price)
    yearly = client.prices.create(
        {
            "currency": "usd",
            "unit_amount": 10,
            "product": str(known.product),
            "recurring": {
                "interval": "year",
                "usage_type": "metered",
                "meter": world.meter("other"),
            },
        }
    ).id
    client.subscription_items.create({"subscription": subscription, "price": yearly})
    world.mapping(price_id=yearly, metric="other")
    seen = []
    for first in (price, yearly):
        # An update moves a row behind the others.
        PriceMapping.objects.filter(price_id=first).update(currency="usd")
        assert len(list(sync_subscriptions(now=world.now))) == 1
        seen.append(BillingCalendar.objects.get().interval)
    assert seen == ["month", "month"]


def test_no_list_of_stripe_is_cut_off_however_many_pages_it_has(world, monkeypatch):
    monkeypatch.setattr(reading, "PAGE_ROWS", 1)
    _, price = subscribed(world)
    client = client_for("live").v1
    references = [f"many{number}" for number in range(50)]
    for ref in references:
        world.customer(ref)
        items = {
            "customer": world.customers[world.acme.pk, ref, "live"],
            "items": [{"price": price}],
        }
        client.subscriptions.create(items)
    assert len(list(sync_subscriptions(now=world.now))) == 51
    followed = set(BillingCalendar.objects.values_list("customer_ref", flat=True))
    assert followed == {"c1", *references}
    world.push()
    world.sandbox.fault("error_503", path="/v1/events", count=1)
    assert inbox.poll_events(now=world.now) == 0
    assert inbox.poll_events(now=world.now) > 51
    stored = set(WebhookInbox.objects.values_list("event_id", flat=True))
    assert stored == {each.id for each in client.events.list({"limit": 100}).auto_paging_iter()}
    assert StripeAccount.objects.get(mode="live").events_polled_to == world.now
    with pytest.raises(StripeRefused, match="more than 20 pages"):
        all_rows(client.customers.list, params={"limit": 1}, options={}, pages_max=20)


def test_an_event_that_cannot_be_processed_is_parked_and_its_neighbours_go_on(world):
    told("invoice.paid", {"id": "in_unknown", "object": "invoice"})
    told("invoice.paid", {"id": "in_../x", "object": "invoice"}, 2)
    told("brand.new", {"id": "x", "object": "x"}, 3)
    process(world)
    found = dict(WebhookInbox.objects.values_list("event_id", "status"))
    assert found == {"evt_told1": "ignored", "evt_told2": "ignored", "evt_told3": "ignored"}
    assert not AuditEntry.objects.filter(action__startswith="period").exists()


def test_an_outage_leaves_events_waiting_and_a_crash_after_storing_loses_none(world, monkeypatch):
    world.mapping()
    told("invoice.paid", {"id": "in_1", "object": "invoice"})
    WebhookInbox.objects.update(not_before=world.now)
    world.sandbox.fault("error_503", path="/v1/invoices/*", count=1)
    assert inbox.process_inbox(now=world.now) == 0
    assert WebhookInbox.objects.get().status == "received"
    assert inbox.process_inbox(now=world.now + timedelta(minutes=5)) == 1
    assert WebhookInbox.objects.get().status == "ignored"


def test_a_worker_that_lost_its_lease_says_nothing_of_the_event_any_more(world):
    told("invoice.paid", {"id": "in_1", "object": "invoice"})
    WebhookInbox.objects.update(not_before=world.now)
    slow = inbox._claim(world.now)
    assert slow is not None
    later = world.now + timedelta(minutes=2)
    assert inbox.process_inbox(now=later) == 1
    ended = WebhookInbox.objects.values().get()
    assert ended["status"] == "ignored"
    assert inbox._later(slow, "Stripe did not answer", later) is False
    assert WebhookInbox.objects.values().get() == ended


def test_created_is_read_in_both_styles(db):
    post(event())
    assert WebhookInbox.objects.get().created_at == datetime.fromtimestamp(1_700_000_000, UTC)


def test_sync_takes_calendars_over_and_an_operators_calendar_stays(world):
    subscription, _ = subscribed(world)
    mine = client_for("live").v1.accounts.retrieve_current().id
    PriceMapping.objects.update(stripe_account=mine)  # the key's own account, by its id
    (synced,) = sync_subscriptions(now=world.now)
    assert (synced.subscription_id, synced.done) == (
        subscription,
        "calendar follows the subscription",
    )
    calendar = BillingCalendar.objects.get()
    assert (calendar.customer_ref, calendar.source) == ("c1", "stripe")
    BillingCalendar.objects.update(source="operator", anchor=at(3))
    (synced,) = sync_subscriptions(now=world.now)
    assert synced.done == "an operator's calendar is in force"
    assert BillingCalendar.objects.get().anchor == at(3)
