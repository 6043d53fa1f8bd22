"""Ingest over HTTP: what is stored, once, and what the answer says."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db import transaction
from django.test import Client

from ledger.models import Event, EventConflict, PendingBatch
from ledger.services import ingest
from stripemeter.lib import clock, strictjson
from stripemeter.lib.instants import rfc3339
from tests.builders.ledger import make_event, store
from tests.builders.tenancy import Caller, make_caller

URL = "/v1/events/ingest"


def event(caller: Caller, **more: Any) -> dict[str, Any]:
    return {
        "tenantId": caller.tenant.key,
        "metric": "api_calls",
        "customerRef": "cus_1",
        "quantity": 3,
        "ts": "2026-01-15T10:00:00Z",
        **more,
    }


def post(caller: Caller, *events: Any, **headers: str) -> Any:
    return Client().post(
        URL,
        strictjson.dumps({"events": list(events)}).decode(),
        "application/json",
        headers={**caller.headers, **headers},
    )


def statuses(answer: Any) -> list[str]:
    return [result["status"] for result in answer.json()["results"]]


def test_an_event_is_stored_as_sent(acme: Caller, globex: Caller) -> None:
    sent = event(
        acme,
        quantity=Decimal("0.000001"),
        ts="2026-01-31T23:59:59.999999+02:00",
        resourceId="srv/ä",
        meta={"b": [1, {"c": None}], "a": Decimal("1.50")},
        idempotencyKey="k-1",
        source="etl",
    )
    answer = post(acme, sent)
    assert answer.status_code == 200
    assert answer.json()["accepted"] == 1
    assert answer.json()["results"] == [{"idempotencyKey": "k-1", "status": "accepted"}]
    row = Event.objects.get()
    assert row.tenant_id == acme.tenant.pk
    assert row.quantity == Decimal("0.000001")
    assert rfc3339(row.ts) == "2026-01-31T21:59:59.999999Z"
    assert (row.customer_ref, row.resource_id, row.source) == ("cus_1", "srv/ä", "etl")
    assert row.meta == {"b": [1, {"c": None}], "a": 1.5}
    assert row.key_text == "k-1"
    batch = PendingBatch.objects.get()
    assert (batch.event_count, batch.ts_min, batch.ts_max) == (1, row.ts, row.ts)


def test_a_duplicate_is_answered_and_not_stored(acme: Caller) -> None:
    sent = event(acme)
    assert statuses(post(acme, sent)) == ["accepted"]
    again = post(acme, sent)
    assert (again.json()["accepted"], again.json()["duplicates"]) == (0, 1)
    assert statuses(again) == ["duplicate"]
    assert Event.objects.count() == 1


def test_the_same_key_with_other_content_is_a_conflict_and_kept_for_the_operator(
    acme: Caller,
) -> None:
    first = event(acme, idempotencyKey="k")
    post(acme, first)
    answer = post(acme, {**first, "quantity": 4})
    assert statuses(answer) == ["conflict"]
    assert answer.json()["conflicts"] == 1
    assert Event.objects.get().quantity == 3
    assert EventConflict.objects.get().refused["quantity"] == "4"


def test_one_batch_answers_each_of_its_events(acme: Caller) -> None:
    post(acme, event(acme, idempotencyKey="old"))
    now = clock.now()
    answer = post(
        acme,
        event(acme, idempotencyKey="new"),
        event(acme, idempotencyKey="new"),
        event(acme, idempotencyKey="old", quantity=9),
        event(acme, idempotencyKey="early", ts=rfc3339(now + timedelta(hours=2))),
        event(acme, idempotencyKey="late", ts="1999-12-31T23:59:59Z"),
        event(acme, idempotencyKey="fat", meta={"x": "y" * 4_100}),
    )
    found = statuses(answer)
    assert found[1] == "duplicate"
    assert (found[0], found[2:]) == ("accepted", ["conflict", "error", "error", "error"])
    assert sorted(error["index"] for error in answer.json()["errors"]) == [2, 3, 4, 5]
    assert set(Event.objects.values_list("key_text", flat=True)) == {"old", "new"}


def test_one_malformed_event_refuses_the_whole_batch(acme: Caller) -> None:
    answer = post(acme, event(acme, idempotencyKey="a"), event(acme, quantity="NaN"))
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["index"] == 1
    assert Event.objects.count() == 0
    assert PendingBatch.objects.count() == 0


def test_a_header_key_names_one_event_or_numbers_a_batch(acme: Caller) -> None:
    one = post(acme, event(acme), **{"Idempotency-Key": "h"})
    assert one.json()["results"][0]["idempotencyKey"] == "h"
    several = post(
        acme,
        event(acme, quantity=1),
        event(acme, quantity=2, idempotencyKey="own"),
        event(acme, quantity=3),
        **{"Idempotency-Key": "b"},
    )
    keys = [result["idempotencyKey"] for result in several.json()["results"]]
    assert keys == ["b:0", "own", "b:2"]
    assert several.json()["accepted"] == 3


def test_events_without_a_key_differ_by_any_content(acme: Caller) -> None:
    base = event(acme)
    answer = post(
        acme,
        base,
        {**base, "quantity": 4},
        {**base, "resourceId": "r"},
        {**base, "customerRef": "cus_2"},
        {**base, "metric": "other"},
        {**base, "meta": {"a": 1}},
        {**base, "source": "sdk"},
        base,
    )
    assert statuses(answer) == ["accepted"] * 7 + ["duplicate"]


def test_two_tenants_may_use_the_same_key(acme: Caller, globex: Caller) -> None:
    assert statuses(post(acme, event(acme, idempotencyKey="k"))) == ["accepted"]
    assert statuses(post(globex, event(globex, idempotencyKey="k"))) == ["accepted"]
    assert Event.objects.filter(tenant_id=acme.tenant.pk).count() == 1
    assert Event.objects.filter(tenant_id=globex.tenant.pk).count() == 1


def test_an_event_that_names_another_tenant_refuses_the_batch(acme: Caller, globex: Caller) -> None:
    answer = post(acme, event(acme), event(globex))
    assert answer.status_code == 403
    assert Event.objects.count() == 0


def test_a_key_that_only_reads_cannot_ingest(acme: Caller) -> None:
    reader = make_caller(acme.tenant, scopes=["project:read", "events:read"])
    assert post(reader, event(acme)).status_code == 403
    assert Event.objects.count() == 0


@pytest.mark.parametrize(
    "change",
    [
        {"quantity": -1},
        {"quantity": "1e3"},
        {"quantity": True},
        {"quantity": Decimal("0.0000001")},
        {"quantity": 10**15},
        {"ts": "2026-01-01"},
        {"ts": "2026-01-01T00:00:00"},
        {"customerRef": ""},
        {"customerRef": "a\u0000b"},
        {"metric": "no spaces"},
        {"source": "elsewhere"},
        {"meta": [1]},
        {"extra": 1},
        {"customerRef": None},
    ],
)
def test_what_is_not_an_event_is_refused_and_absent(acme: Caller, change: dict[str, Any]) -> None:
    assert post(acme, event(acme, **change)).status_code == 400
    assert Event.objects.count() == 0


def test_a_time_ordered_key_keeps_its_own_bits(acme: Caller) -> None:
    key = "019a9f00-0000-7000-8000-000000000001"
    post(acme, event(acme, idempotencyKey=key))
    assert Event.objects.get().key == UUID(key)


def test_cloudevents_are_stored_like_native_ones(acme: Caller) -> None:
    body = {
        "specversion": "1.0",
        "id": "1",
        "source": "svc",
        "type": "api_calls",
        "subject": "cus_1",
        "time": rfc3339(clock.now()),
        "data": {"value": 7},
    }
    answer = Client().post(
        URL, strictjson.dumps(body).decode(), "application/cloudevents+json", headers=acme.headers
    )
    assert answer.json()["accepted"] == 1
    row = Event.objects.get()
    assert (row.quantity, row.key_text) == (7, "svc#1")


def test_a_retry_after_a_failed_write_is_accepted(acme: Caller, monkeypatch: Any) -> None:
    """Deduplication outside the write would call the retry a duplicate and lose the event."""
    sent = make_event(3, idempotencyKey="retried")
    ingest_statement = ingest._STORE
    monkeypatch.setattr(ingest, "_STORE", ingest_statement.replace("ledger_event", "absent"))
    with pytest.raises(psycopg.Error), transaction.atomic():
        store(acme.tenant, sent)
    monkeypatch.setattr(ingest, "_STORE", ingest_statement)
    assert store(acme.tenant, sent).accepted == 1
    assert store(acme.tenant, sent).duplicates == 1
