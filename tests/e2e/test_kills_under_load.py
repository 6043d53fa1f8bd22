"""SIGKILL of web, worker and beat under load loses nothing and doubles nothing."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from decimal import Decimal
from http.client import HTTPException

import pytest
from django.db.models import Count, Sum

from counters.models import Counter, DailyRollup
from counters.services.fold import fold_everything
from ledger.models import Event, PendingBatch
from stripemeter.lib import clock
from stripemeter.lib.instants import rfc3339
from tests.builders.tenancy import make_caller
from tests.support import processes

CLIENTS = 4
BATCH = 50
CUSTOMERS = 7


class Client(threading.Thread):
    """Posts batches one after the other; repeats each, with its keys, until it is answered 200."""

    def __init__(self, number: int, url: Callable[[], str], key: str, tenant: str) -> None:
        super().__init__(daemon=True)
        self.number, self.url, self.key, self.tenant = number, url, key, tenant
        self.done = threading.Event()
        #: Quantity per customer of every event in an acknowledged batch.
        self.acknowledged: dict[str, int] = {}
        self.batches = 0
        self.repeats = 0
        self.answered_twice = 0

    def run(self) -> None:
        while not self.done.is_set():
            events = [self._event(place) for place in range(BATCH)]
            self._send(json.dumps({"events": events}).encode())
            self.batches += 1
            for event in events:
                customer = str(event["customerRef"])
                total = self.acknowledged.get(customer, 0) + int(str(event["quantity"]))
                self.acknowledged[customer] = total

    def _event(self, place: int) -> dict[str, object]:
        return {
            "tenantId": self.tenant,
            "metric": "api_calls",
            "customerRef": f"c{(self.batches + place) % CUSTOMERS}",
            "quantity": 1 + place % 5,
            "ts": rfc3339(clock.now()),
            "idempotencyKey": f"{self.number}-{self.batches}-{place}",
        }

    def _send(self, body: bytes) -> None:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            request = urllib.request.Request(
                f"{self.url()}/v1/events/ingest", data=body, headers=headers
            )
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    self.answered_twice += json.load(answer)["duplicates"]
                    return
            except urllib.error.HTTPError as refusal:
                refusal.close()
                if refusal.code not in {429, 503}:
                    raise
            except (OSError, HTTPException):
                pass  # no answer, or the half of one
            self.repeats += 1
            time.sleep(0.05)
        raise AssertionError("a batch was never answered")


def expected(clients: list[Client]) -> dict[str, Decimal]:
    totals: dict[str, Decimal] = {}
    for client in clients:
        for customer, quantity in client.acknowledged.items():
            totals[customer] = totals.get(customer, Decimal(0)) + quantity
    return totals


@pytest.mark.parametrize(
    "rounds", [3, pytest.param(30, marks=pytest.mark.large)], ids=["small", "large"]
)
def test_kills_of_web_worker_and_beat_lose_and_double_nothing(
    web, start_process, transactional_db, rounds
):
    make_caller("globex")
    acme = make_caller("acme")
    worker = start_process(processes.celery("worker", "--concurrency", "1", "-l", "WARNING"))
    beat = start_process(processes.celery("beat", "-l", "WARNING"))
    clients = [Client(n, lambda: web.url, acme.plaintext, "acme") for n in range(CLIENTS)]
    for client in clients:
        client.start()
    for victim in [web, worker, beat] * rounds:
        time.sleep(0.7)
        victim.kill()
        victim.start()
    time.sleep(0.7)
    for client in clients:
        client.done.set()
    for client in clients:
        client.join(timeout=150)
        assert not client.is_alive()
    worker.kill()
    beat.kill()

    wanted = expected(clients)
    stored = dict(Event.objects.values_list("customer_ref").annotate(total=Sum("quantity")))
    assert stored == wanted
    batches = sum(client.batches for client in clients)
    assert Event.objects.count() == batches * BATCH
    fold_everything(now=clock.now())
    assert not PendingBatch.objects.exists()
    folded = Counter.objects.values_list("customer_ref").annotate(total=Sum("sum"))
    assert dict(folded) == wanted
    days = DailyRollup.objects.aggregate(total=Sum("sum"), events=Sum("event_count"))
    assert days == {"total": sum(wanted.values()), "events": batches * BATCH}
    # The kills must have hurt somebody, or the test has shown nothing.
    assert sum(client.repeats for client in clients) > 0
    assert (
        Event.objects.values("tenant_id").aggregate(n=Count("tenant_id", distinct=True))["n"] == 1
    )
    print(
        f"{batches} batches, {batches * BATCH} events, {3 * rounds} kills, "
        f"{sum(client.repeats for client in clients)} requests repeated, "
        f"{sum(client.answered_twice for client in clients)} events recognised as duplicates"
    )
