"""Delivery of snapshot and thin events, and what the script does to it."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import stripe

from tests.sandbox.builders import make_customer, make_meter, make_price, send

THIN = ["v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found"]


class Receiver:
    """A webhook endpoint on loopback that keeps what it gets."""

    def __init__(self) -> None:
        self.deliveries: list[tuple[bytes, str]] = []
        self.statuses: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.deliveries.append((body, self.headers["Stripe-Signature"]))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def events(self) -> list[dict]:
        return [json.loads(body) for body, _ in self.deliveries]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def endpoint(client, receiver):
    params = {"url": receiver.url, "enabled_events": ["customer.created", "customer.updated"]}
    return client.v1.webhook_endpoints.create(params)


@pytest.fixture
def destination(client, receiver):
    return client.v2.core.event_destinations.create(
        {
            "name": "thin",
            "type": "webhook_endpoint",
            "event_payload": "thin",
            "enabled_events": THIN,
            "webhook_endpoint": {"url": receiver.url},
            "include": ["webhook_endpoint.signing_secret", "webhook_endpoint.url"],
        }
    )


def flush(sandbox) -> None:
    sandbox.control("POST", "webhooks/flush", {})


def test_a_snapshot_event_arrives_signed_with_the_endpoints_secret(
    sandbox, client, receiver, endpoint
):
    customer = make_customer(client)
    flush(sandbox)
    body, signature = receiver.deliveries[0]
    event = client.construct_event(body, signature, endpoint.secret)
    assert (event.type, event.data.object.id) == ("customer.created", customer)
    assert event["request"]["id"].startswith("req_")
    with pytest.raises(stripe.SignatureVerificationError):
        client.construct_event(body + b" ", signature, endpoint.secret)


def test_the_secret_is_shown_once_and_other_types_are_not_sent(sandbox, client, receiver, endpoint):
    assert endpoint.secret.startswith("whsec_")
    assert "secret" not in client.v1.webhook_endpoints.retrieve(endpoint.id).to_dict()
    make_meter(client)
    flush(sandbox)
    assert receiver.deliveries == []
    types = [event.type for event in client.v1.events.list().data]
    assert types == ["billing.meter.created"]


def test_a_failed_delivery_is_tried_again(sandbox, client, receiver, endpoint):
    receiver.statuses = [500, 503]
    make_customer(client)
    for _ in range(3):
        flush(sandbox)
    assert len(receiver.deliveries) == 3
    assert len({event["id"] for event in receiver.events}) == 1
    outcomes = [row["outcome"] for row in sandbox.control("GET", "webhooks")["attempts"]]
    assert outcomes == ["500", "503", "200"]


def test_undelivered_events_can_be_polled_for(sandbox, client, receiver, endpoint):
    sandbox.configure(webhook_retry_seconds=[])
    receiver.statuses = [500]
    make_customer(client)
    make_customer(client)
    flush(sandbox)
    undelivered = client.v1.events.list({"delivery_success": False}).data
    assert [event.pending_webhooks for event in undelivered] == [1]
    sandbox.control("POST", "webhooks/resend", {"event": undelivered[0].id})
    assert client.v1.events.list({"delivery_success": False}).data == []


def test_a_draft_waits_up_to_72_hours_for_an_endpoint_that_fails(sandbox, client, receiver):
    sandbox.configure(finalize_waits_for_webhooks=True, webhook_retry_seconds=[])
    client.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["invoice.created"]})
    price = make_price(client, make_meter(client).id)
    items = [{"price": price.id}]
    sub = client.v1.subscriptions.create({"customer": make_customer(client), "items": items})
    receiver.statuses = [500]
    sandbox.set_clock(sub["items"].data[0].current_period_end, freeze=True)
    flush(sandbox)
    statuses = []
    for hours in (2, 69, 1):
        sandbox.advance(hours * 3_600)
        statuses.append(client.v1.invoices.list().data[0].status)
    assert statuses == ["draft", "draft", "paid"]


def test_scripted_loss_and_doubles(sandbox, client, receiver, endpoint):
    sandbox.fault("webhook_drop", event_type="customer.created")
    sandbox.fault("webhook_duplicate", event_type="customer.updated", options={"times": 2})
    customer = make_customer(client)
    client.v1.customers.update(customer, {"name": "Other"})
    flush(sandbox)
    assert [event["type"] for event in receiver.events] == ["customer.updated"] * 3
    lost = client.v1.events.list({"type": "customer.created"}).data
    assert len(lost) == 1


def test_held_deliveries_are_released_in_the_order_asked_for(sandbox, client, receiver, endpoint):
    sandbox.fault("webhook_hold", count=None)
    customers = [make_customer(client) for _ in range(3)]
    flush(sandbox)
    assert receiver.deliveries == []
    sandbox.control("POST", "webhooks/release", {"order": "reverse"})
    arrived = [event["data"]["object"]["id"] for event in receiver.events]
    assert arrived == customers[::-1]


def test_an_old_event_can_be_sent_again(sandbox, client, receiver, endpoint):
    make_customer(client)
    flush(sandbox)
    event = receiver.events[0]["id"]
    sandbox.control("POST", "webhooks/resend", {"event": event, "times": 2})
    assert [e["id"] for e in receiver.events] == [event] * 3


def test_a_forged_signature_and_an_old_timestamp_do_not_verify(sandbox, client, receiver, endpoint):
    sandbox.fault("webhook_forge", options={"secret": "whsec_wrong"})
    sandbox.fault("webhook_forge", skip=1, options={"timestamp_shift": -1000})
    make_customer(client)
    flush(sandbox)
    make_customer(client)
    flush(sandbox)
    for body, signature in receiver.deliveries:
        with pytest.raises(stripe.SignatureVerificationError):
            client.construct_event(body, signature, endpoint.secret)


def test_an_asynchronous_reject_answers_200_and_is_told_by_a_thin_event(
    sandbox, client, receiver, destination
):
    sandbox.configure(unknown_customer="async")
    meter = make_meter(client)
    send(client, "cus_nobody", "5", identifier="lost", key="lost-key")
    sandbox.advance(1)
    flush(sandbox)
    body, signature = receiver.deliveries[0]
    secret = destination.webhook_endpoint.signing_secret
    notification = client.parse_event_notification(body, signature, secret)
    assert notification.type == THIN[0]
    assert notification.related_object.id == meter.id
    assert "data" not in receiver.events[0]
    event = notification.fetch_event()
    error = event.data.reason.error_types[0]
    assert (error.code, error.error_count) == ("meter_event_customer_not_found", 1)
    assert error.sample_errors[0]["request"]["identifier"] == "lost-key"
    assert [line["outcome"] for line in sandbox.journal()] == ["rejected"]
    with pytest.raises(ValueError, match=r".*"):
        client.construct_event(body, signature, secret)


def test_a_scripted_reject_takes_a_good_event_out(sandbox, client, receiver, destination):
    make_meter(client)
    customer = make_customer(client)
    sandbox.fault("async_reject", options={"code": "meter_event_value_too_many_digits"})
    send(client, customer, "1")
    send(client, customer, "2")
    sandbox.advance(1)
    assert sandbox.totals()[0]["sum"] == "2"
    listed = client.v2.core.events.list({"types": [THIN[0]], "limit": 5}).data
    assert len(listed) == 1


def test_the_stream_takes_a_session_token_and_tells_errors_later(
    sandbox, client, connect, receiver, destination
):
    make_meter(client)
    customer = make_customer(client)
    session = client.v2.billing.meter_event_session.create()
    streaming = connect(session.authentication_token)
    payload = {"stripe_customer_id": customer, "value": "4"}
    streaming.v2.billing.meter_event_stream.create(
        {
            "events": [
                {"event_name": "api_calls", "payload": payload, "identifier": "s1"},
                {"event_name": "nothing", "payload": payload, "identifier": "s2"},
            ]
        }
    )
    sandbox.advance(1)
    flush(sandbox)
    assert [event["type"] for event in receiver.events] == [THIN[1]]
    assert "related_object" not in receiver.events[0]
    assert sandbox.totals()[0]["sum"] == "4"
    sandbox.advance(901)
    with pytest.raises(stripe.StripeError, match="expired"):
        streaming.v2.billing.meter_event_stream.create({"events": []})


def test_v2_meter_events_refuse_by_code(sandbox, client):
    make_meter(client)
    customer = make_customer(client)

    def create(**fields):
        payload = {"stripe_customer_id": customer, "value": "1"}
        return client.v2.billing.meter_events.create(
            {"event_name": "api_calls", "payload": payload, **fields}
        )

    assert create(identifier="same").identifier == "same"
    codes = []
    for fields in (
        {"identifier": "same"},
        {"event_name": "nothing"},
        {"payload": {"value": "1"}},
        {"payload": {"stripe_customer_id": customer}},
        {"payload": {"stripe_customer_id": customer, "value": "-1"}},
    ):
        with pytest.raises(stripe.StripeError) as caught:
            create(**fields)
        codes.append(caught.value.error.code)
    assert codes == [
        "duplicate_meter_event",
        "no_meter",
        "payload_no_customer_defined",
        "payload_no_value_defined",
        "payload_invalid_value",
    ]
    adjustment = {"event_name": "api_calls", "type": "cancel", "cancel": {"identifier": "same"}}
    assert client.v2.billing.meter_event_adjustments.create(adjustment).status == "pending"
    assert sandbox.totals() == []


def test_destinations_are_listed_changed_pinged_and_deleted(sandbox, client, receiver, destination):
    destinations = client.v2.core.event_destinations
    assert [row.id for row in destinations.list({}).data] == [destination.id]
    ping = destinations.ping(destination.id)
    flush(sandbox)
    assert receiver.events[0]["id"] == ping.id
    assert destinations.disable(destination.id).status == "disabled"
    assert destinations.enable(destination.id).status == "enabled"
    assert destinations.update(destination.id, {"name": "other"}).name == "other"
    destinations.delete(destination.id)
    with pytest.raises(stripe.StripeError, match="No such event destination"):
        destinations.retrieve(destination.id)
