"""From a total down to its events, and from an event up to its pushes."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.urls import reverse

from counters.models import Adjustment
from ledger.models import Event
from stripemeter.lib import clock
from tests.builders.ledger import fold, make_event, store
from tests.ops.conftest import Office, use


def total_page(office: Office, client: Any, **wanted: str) -> str:
    query = {"ref": "acme-customer", "metric": "api_calls", **wanted}
    answer = client.get(reverse("ops:total"), query)
    assert answer.status_code == 200
    return str(answer.content.decode())


def late(office: Office, quantity: int) -> Event:
    """An event four days older than the counter's newest, folded."""
    now = clock.now()
    month_start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    office.acme.lateness_window_hours = 0
    office.acme.save()
    old = max(now - timedelta(days=4), month_start)
    key = str(uuid4())
    event = make_event(quantity, ts=old, idempotencyKey=key, customerRef="acme-customer")
    store(office.acme, event, now=now)
    fold(now)
    return Event.objects.get(tenant_id=office.acme.pk, key_text=key)


def test_a_total_is_made_of_batches_and_corrections_that_add_up(office: Office) -> None:
    use(office.acme, "acme-customer", 7)
    late(office, 3)
    waiting = office.adjustment()
    page = total_page(office, office.sign_in("viewer"))
    assert "<strong>20</strong>" in page
    assert "<strong>17</strong>" in page
    assert "adds up" in page
    assert "3 batches with 3 events make 17" in page
    assert "1 late" in page
    assert "waiting for approval" in page
    assert waiting.status == Adjustment.Status.PENDING
    batches = Event.objects.filter(tenant_id=office.acme.pk).values_list("batch_id", flat=True)
    assert all(f"batch={batch}" in page for batch in batches)


def test_a_total_of_another_tenant_or_of_nothing_is_not_found(office: Office) -> None:
    client = office.sign_in("viewer")
    assert "No usage" in total_page(office, client, ref="globex-customer")
    for wrong in ({"metric": "nothing"}, {"ref": ""}, {"metric": "a\x00"}):
        query = {"ref": "acme-customer", "metric": "api_calls", **wrong}
        assert client.get(reverse("ops:total"), query).status_code == 404


def test_an_event_tells_its_batch_counter_and_pushes(office: Office) -> None:
    event = Event.objects.get(tenant_id=office.acme.pk)
    client = office.sign_in("viewer")
    page = client.get(reverse("ops:event", args=[event.key])).content.decode()
    assert f"batch={event.batch_id}" in page
    told = client.get(reverse("ops:event-counter", args=[event.key])).content.decode()
    assert "folded into the counter" in told
    unmapped = client.get(reverse("ops:event-pushes", args=[event.key])).content.decode()
    assert "mapped to no price" in unmapped
    office.mapping()
    mapped = client.get(reverse("ops:event-pushes", args=[event.key])).content.decode()
    assert "Nothing of its UTC day was pushed yet" in mapped
    behind = late(office, 3)
    told = client.get(reverse("ops:event-counter", args=[behind.key])).content.decode()
    assert "it came late" in told
    theirs = Event.objects.get(tenant_id=office.globex.pk)
    for name in ("event", "event-counter", "event-pushes"):
        assert client.get(reverse(f"ops:{name}", args=[theirs.key])).status_code == 404


def test_the_explorer_shows_one_batch(office: Office) -> None:
    use(office.acme, "other-customer")
    client = office.sign_in("viewer")
    event = Event.objects.get(tenant_id=office.acme.pk, customer_ref="other-customer")
    page = client.get(reverse("ops:events"), {"batch": event.batch_id}).content.decode()
    assert "other-customer" in page
    assert "acme-customer" not in page
    theirs = Event.objects.get(tenant_id=office.globex.pk)
    for batch in (theirs.batch_id, "x", "9" * 30):
        page = client.get(reverse("ops:events"), {"batch": batch}).content.decode()
        assert "No event matches" in page
