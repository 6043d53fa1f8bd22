"""Webhooks out: signed, retried, logged, never sent inside our own network."""

import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core import mail
from django.db import transaction
from standardwebhooks import Webhook, WebhookVerificationError

from billing.models import Delivery, WebhookEndpoint
from billing.services import notices
from billing.services.deliveries import ATTEMPTS_MAX, deliver_due
from stripemeter.lib import clock, outbound, strictjson
from stripemeter.tenancy.models import AuditEntry, Membership
from stripemeter.tenancy.recognition import forget_cached_keys
from tests.billing.test_alerts import call
from tests.builders.ledger import NOW
from tests.builders.tenancy import Caller, make_caller

pytestmark = pytest.mark.django_db


class Receiver:
    """A real HTTP server that keeps what it gets and answers what it is told to."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((dict(self.headers.items()), body))
                self.send_response(receiver.status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"seen")

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    settings.WEBHOOK_ALLOW_PRIVATE = True
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture
def acme() -> Caller:
    forget_cached_keys()
    make_caller("globex")
    return make_caller("acme")


def endpoint(caller: Caller, url: str, *types: str) -> dict[str, Any]:
    body = {"url": url, "eventTypes": list(types) or ["alert.*"]}
    answer = call(caller, "post", "webhook-endpoints", body)
    assert answer.status_code == 201, answer.content
    return dict(answer.json())


def emit(caller: Caller, *types: str) -> int:
    with transaction.atomic():
        events = [notices.Event(caller.tenant.pk, name, {"n": 1}) for name in types]
        return notices.emit(events, now=NOW)


def test_a_message_is_verified_by_the_library_that_receivers_use(
    acme: Caller, receiver: Receiver
) -> None:
    made = endpoint(acme, receiver.url)
    assert emit(acme, "alert.triggered", "push.parked") == 1
    # The library refuses timestamps that are not of now.
    assert deliver_due(now=max(NOW, clock.now())) == 1
    headers, body = receiver.got[0]
    said = Webhook(made["secret"]).verify(body, headers)
    assert (said["type"], said["data"]) == ("alert.triggered", {"n": 1})
    with pytest.raises(WebhookVerificationError):
        Webhook(made["secret"]).verify(body + b" ", headers)


def test_a_rotated_secret_signs_beside_the_old_one_for_a_day(
    acme: Caller, receiver: Receiver
) -> None:
    made = endpoint(acme, receiver.url)
    path = f"webhook-endpoints/{made['id']}"
    new = call(acme, "post", f"{path}/rotate", {}).json()["secret"]
    assert new != made["secret"]
    assert "secret" not in call(acme, "get", path).json()
    emit(acme, "alert.triggered")
    now = max(NOW, clock.now())
    deliver_due(now=now)
    headers, body = receiver.got[0]
    for secret in (new, made["secret"]):
        Webhook(secret).verify(body, headers)
    WebhookEndpoint.objects.update(previous_until=now)
    emit(acme, "alert.triggered")
    deliver_due(now=now)
    with pytest.raises(WebhookVerificationError):
        Webhook(made["secret"]).verify(receiver.got[1][1], receiver.got[1][0])


def test_a_dead_endpoint_is_tried_twelve_times_then_switched_off_with_notice(
    acme: Caller, receiver: Receiver
) -> None:
    owner = get_user_model().objects.create_user("o", email="owner@acme.example")
    Membership.objects.create(tenant=acme.tenant, user=owner, role="owner")
    made = endpoint(acme, receiver.url)
    receiver.status = 500
    emit(acme, "alert.triggered")
    now, waits = NOW, []
    for number in range(1, ATTEMPTS_MAX + 1):
        # The last failure also queues the mail that says so, and sends it.
        assert deliver_due(now=now) == (2 if number == ATTEMPTS_MAX else 1)
        assert deliver_due(now=now) == 0
        row = Delivery.objects.get(channel="webhook")
        waits.append(row.next_attempt_at - now)
        now = max(now, row.next_attempt_at)
    assert len(receiver.got) == 12
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert len({body for _, body in receiver.got}) == 1
    assert waits[0] < timedelta(seconds=7)
    assert timedelta(hours=16) < waits[-2] <= timedelta(hours=24)
    found = WebhookEndpoint.objects.get(pk=made["id"])
    assert (found.enabled, found.disabled_reason) == (False, "12 tries failed")
    assert emit(acme, "alert.triggered") == 0
    assert [(m.to, m.subject) for m in mail.outbox] == [
        (["owner@acme.example"], "A webhook endpoint was switched off")
    ]
    assert AuditEntry.objects.filter(action="webhook_endpoint.disabled").count() == 1
    log = call(acme, "get", f"webhook-deliveries/{row.pk}").json()
    assert [each["httpStatus"] for each in log["tries"]] == [500] * 12


def test_a_failed_message_is_sent_again_by_hand_with_the_same_id(
    acme: Caller, receiver: Receiver
) -> None:
    endpoint(acme, receiver.url)
    receiver.status = 410
    emit(acme, "alert.triggered")
    deliver_due(now=NOW)
    old = call(acme, "get", "webhook-deliveries?status=failed").json()["deliveries"][0]
    again = f"webhook-deliveries/{old['id']}/redeliver"
    assert call(acme, "post", again, {}).status_code == 409
    path = f"webhook-endpoints/{old['endpointId']}"
    assert call(acme, "put", path, {"enabled": True}).json()["enabled"]
    receiver.status = 204
    assert call(acme, "post", again, {}).json()["messageId"] == old["messageId"]
    assert call(acme, "post", f"{path}/test", {}).status_code == 202
    assert deliver_due(now=max(NOW, clock.now())) == 2
    types = [strictjson.loads(body)["type"] for _, body in receiver.got]
    assert sorted(types) == ["alert.triggered", "alert.triggered", "webhook.test"]


def test_redirects_are_not_followed(acme: Caller, receiver: Receiver) -> None:
    receiver.status, receiver.headers = 302, {"Location": receiver.url}
    answer = outbound.post(receiver.url, b"{}", {})
    assert (answer.status, answer.is_success, len(receiver.got)) == (302, False, 1)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "https://127.0.0.1/", "https://[::1]/", "https://10.0.0.1/",
        "https://169.254.169.254/latest/", "https://[::ffff:10.0.0.1]/", "https://[64:ff9b::a00:1]/",
        "https://100.64.0.1/", "https://0.0.0.0/", "https://224.0.0.1/", "https://localhost/",
        "https://user:pass@example.com/", "https://example.com/#x", "ftp://example.com/",
        "https://exa mple.com/", "https://[fd00::1]/", "https://2130706433/",
    ],
)  # fmt: skip
def test_an_address_inside_our_network_is_refused(acme: Caller, url: str) -> None:
    body = {"url": url, "eventTypes": ["alert.*"]}
    answer = call(acme, "post", "webhook-endpoints", body)
    assert answer.status_code == 400, url
    assert outbound.post(url, b"{}", {}).error.startswith("not sent")


def test_a_name_that_resolves_inside_our_network_is_never_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answers(*addresses: str) -> None:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 443)) for each in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    answers("192.168.1.7")
    assert "not public" in outbound.post("https://rebind.example/", b"{}", {}).error
    answers("93.184.216.34", "127.0.0.1")
    assert "not public" in outbound.post("https://rebind.example/", b"{}", {}).error
    answers("93.184.216.34")
    assert outbound.resolve("rebind.example", 443) == "93.184.216.34"


def test_another_tenant_reaches_neither_endpoint_nor_log(acme: Caller, receiver: Receiver) -> None:
    globex = make_caller("globex")
    made = endpoint(acme, receiver.url)
    emit(acme, "alert.triggered")
    delivery = Delivery.objects.get()
    for method, path in (
        ("get", f"webhook-endpoints/{made['id']}"),
        ("post", f"webhook-endpoints/{made['id']}/rotate"),
        ("post", f"webhook-endpoints/{made['id']}/test"),
        ("delete", f"webhook-endpoints/{made['id']}"),
        ("get", f"webhook-deliveries/{delivery.pk}"),
        ("post", f"webhook-deliveries/{delivery.pk}/redeliver"),
    ):
        body = {} if method == "post" else None
        assert call(globex, method, path, body).status_code == 404, path
    assert call(globex, "get", "webhook-deliveries").json()["deliveries"] == []
    assert emit(globex, "alert.triggered") == 0
