"""Backfill: every row accounted for, once, whatever the format and whatever dies."""

import csv
import gzip
import io
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from ledger import tasks
from ledger.models import BackfillChunk, Event, Operation
from ledger.services import backfill, operations
from stripemeter.lib import clock, strictjson
from stripemeter.tenancy.models import AuditEntry
from tests.builders.catalogue import Catalogue
from tests.builders.ledger import fold, only_sum
from tests.builders.shared import bad_inputs
from tests.builders.tenancy import Caller, make_caller

URL = "/v1/events/backfill"
HEADER = "metric,customerRef,quantity,ts\n"
ROW = "api_calls,cus_1,{},2025-01-15T10:00:{:02d}Z\n"


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(backfill, "CHUNK_ROWS_MAX", 4)
    return


def body(caller: Caller, **more: Any) -> dict[str, Any]:
    return {
        "tenantId": caller.tenant.key,
        "metric": "api_calls",
        "periodStart": "2025-01-01",
        "reason": "import",
        **more,
    }


def post(caller: Caller, payload: Any, **headers: str) -> Any:
    return Client().post(
        URL,
        strictjson.dumps(payload).decode(),
        "application/json",
        headers={**caller.headers, **headers},
    )


def status_of(caller: Caller, answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.content
    tasks.backfill()
    found: dict[str, Any] = (
        Client().get(f"{URL}/{answer.json()['operationId']}", headers=caller.headers).json()
    )
    return found


def counts(status: dict[str, Any]) -> tuple[int, ...]:
    names = ("totalEvents", "acceptedEvents", "duplicateEvents", "failedEvents")
    return tuple(status[name] for name in names)


def test_csv_rows_are_stored_in_chunks_and_accounted_for(acme: Caller, globex: Caller) -> None:
    rows = "".join(ROW.format(n, n) for n in range(10)) + ROW.format("x", 11) + ROW.format(3, 3)
    answer = post(acme, body(acme, csvData=HEADER + rows))
    assert answer.json()["status"] == "pending"
    assert Event.objects.count() == 0
    status = status_of(acme, answer)
    assert status["status"] == "completed"
    assert counts(status) == (12, 10, 1, 1)
    assert status["errors"] == [
        {"line": 12, "code": "invalid_quantity", "error": status["errors"][0]["error"]}
    ]
    assert BackfillChunk.objects.count() == 3
    assert set(Event.objects.values_list("source", "tenant_id")) == {("import", acme.tenant.pk)}
    fold(clock.now())
    assert only_sum(acme.tenant) == 45


def test_the_same_file_again_adds_nothing(acme: Caller) -> None:
    payload = body(acme, csvData=HEADER + ROW.format(1, 1) + ROW.format(2, 2))
    assert counts(status_of(acme, post(acme, payload))) == (2, 2, 0, 0)
    assert counts(status_of(acme, post(acme, payload))) == (2, 0, 2, 0)


def test_json_events_keep_their_digits_and_keys(acme: Caller) -> None:
    events = [
        {"customerRef": "c", "quantity": 0.1, "ts": "2025-01-15T10:00:00Z", "meta": {"a": 1.50}},
        {
            "metric": "api_calls",
            "customerRef": "c",
            "quantity": 2,
            "ts": "2025-01-31T23:59:59.999999Z",
            "idempotencyKey": "k",
            "source": "etl",
        },
    ]
    assert counts(status_of(acme, post(acme, body(acme, events=events)))) == (2, 2, 0, 0)
    assert str(Event.objects.get(key_text=None).quantity) == "0.1"
    assert Event.objects.get(key_text="k").source == "etl"


def test_rows_outside_the_declaration_fail_with_their_line(acme: Caller) -> None:
    events = [
        {"customerRef": "c", "quantity": 1, "ts": "2024-12-31T23:59:59Z"},
        {"customerRef": "c", "quantity": 1, "ts": "2025-02-01T00:00:00Z"},
        {"customerRef": "c", "quantity": 1, "ts": "2025-01-01T00:00:00Z", "metric": "other"},
        {"customerRef": "other", "quantity": 1, "ts": "2025-01-01T00:00:00Z"},
        {"customerRef": "c", "quantity": 1, "ts": "2025-01-01T00:00:00Z"},
        "nothing",
    ]
    status = status_of(acme, post(acme, body(acme, events=events, customerRef="c")))
    assert counts(status) == (6, 1, 0, 5)
    assert [(error["line"], error["code"]) for error in status["errors"]] == [
        (1, "outside_period"),
        (2, "outside_period"),
        (3, "not_declared"),
        (4, "not_declared"),
        (6, "unreadable"),
    ]


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("kind", ["csv", "ndjson"])
@pytest.mark.parametrize("way", ["stream", "file"])
def test_streams_and_files_are_read_alike(acme: Caller, packed: bool, kind: str, way: str) -> None:
    if kind == "csv":
        text = HEADER + "".join(ROW.format(n, n) for n in range(6))
    else:
        text = "".join(
            f'{{"metric":"api_calls","customerRef":"cus_1","quantity":{n},'
            f'"ts":"2025-01-15T10:00:{n:02d}Z"}}\n'
            for n in range(6)
        )
    data = text.encode() + b"\xff\xfe,broken\n"
    data = gzip.compress(data) if packed else data
    fields = {"tenantId": "acme", "periodStart": "2025-01-01", "reason": "import"}
    if way == "file":
        name = f"usage.{kind}" + (".gz" if packed else "")
        upload = SimpleUploadedFile(name, data, "application/octet-stream")
        answer = Client().post(URL, {**fields, "file": upload}, headers=acme.headers)
    else:
        media_type = {"csv": "text/csv", "ndjson": "application/x-ndjson"}[kind]
        query = "&".join(f"{name}={value}" for name, value in fields.items())
        headers = {**acme.headers, **({"Content-Encoding": "gzip"} if packed else {})}
        answer = Client().generic("POST", f"{URL}?{query}", data, media_type, headers=headers)
    status = status_of(acme, answer)
    assert counts(status) == (7, 6, 0, 1)


def test_broken_gzip_and_bombs_are_refused(acme: Caller, settings: Any) -> None:
    settings.BACKFILL_UPLOAD_LIMIT_BYTES = 100_000
    fields = "tenantId=acme&periodStart=2025-01-01&reason=r"
    headers = {**acme.headers, "Content-Encoding": "gzip"}

    def send(data: bytes) -> int:
        answer = Client().generic("POST", f"{URL}?{fields}", data, "text/csv", headers=headers)
        return int(answer.status_code)

    whole = gzip.compress((HEADER + ROW.format(1, 1) * 3).encode())
    assert send(whole[:-9]) == 400
    assert send(b"no gzip") == 400
    assert send(gzip.compress(HEADER.encode() + b"a" * 200_000)) == 413
    assert not Operation.objects.exists()
    assert not BackfillChunk.objects.exists()


def test_failed_rows_are_downloadable_and_inert(acme: Caller) -> None:
    rows = [["=cmd", "2025-01-15T10:00:00Z"], ["1", "never"], ["1", "2025-01-15T10:00:00Z"]]
    text = "metric,customerRef,quantity,ts\n" + "".join(f"api_calls,c,{q},{ts}\n" for q, ts in rows)
    answer = post(acme, body(acme, csvData=text))
    status_of(acme, answer)
    download = Client().get(f"{URL}/{answer.json()['operationId']}/errors", headers=acme.headers)
    found = list(csv.reader(io.StringIO(b"".join(download).decode())))
    assert found[0] == ["line", "code", "error"]
    assert [row[:2] for row in found[1:]] == [["2", "invalid_quantity"], ["3", "invalid_instant"]]
    assert all(not row[2].startswith(("=", "+", "-", "@")) for row in found)


def test_a_killed_backfill_goes_on_and_counts_exactly(acme: Caller) -> None:
    rows = "".join(ROW.format(1, n) for n in range(10))
    answer = post(acme, body(acme, csvData=HEADER + rows))
    now = clock.now()
    claimed = operations.claim(kind="backfill", now=now)
    assert claimed is not None
    backfill._store_next(operations.step(claimed, now=now), now)
    # The worker is gone; within its lease nobody else takes over.
    assert operations.claim(kind="backfill", now=now) is None
    later = now + operations.LEASE + timedelta(seconds=1)
    successor = operations.claim(kind="backfill", now=later)
    assert successor is not None
    with pytest.raises(operations.ClaimLost):
        operations.step(claimed, now=later)
    backfill.run_backfill(successor, clock=lambda: later)
    status = status_of(acme, answer)
    assert (status["status"], counts(status)) == ("completed", (10, 10, 0, 0))


def test_cancel_stops_between_chunks_and_resume_goes_on(acme: Caller) -> None:
    rows = "".join(ROW.format(1, n) for n in range(10))
    answer = post(acme, body(acme, csvData=HEADER + rows))
    path = f"/v1/operations/{answer.json()['operationId']}"
    now = clock.now()
    claimed = operations.claim(kind="backfill", now=now)
    assert claimed is not None
    backfill._store_next(operations.step(claimed, now=now), now)
    cancel = Client().post(f"{path}/cancel", {}, "application/json", headers=acme.headers)
    assert cancel.json()["cancelRequested"] is True
    backfill.run_backfill(claimed, clock=lambda: now)
    shown = Client().get(path, headers=acme.headers).json()
    assert (shown["status"], shown["progress"]) == ("cancelled", {"done": 1, "total": 3})
    Client().post(f"{path}/resume", {}, "application/json", headers=acme.headers)
    status = status_of(acme, answer)
    assert (status["status"], counts(status)) == ("completed", (10, 10, 0, 0))
    again = Client().post(f"{path}/cancel", {}, "application/json", headers=acme.headers)
    assert again.status_code == 409
    actions = AuditEntry.objects.filter(object_type="operation").order_by("sequence")
    assert [row.action for row in actions] == [
        "backfill.created", "backfill.cancelled", "backfill.resumed",
    ]  # fmt: skip


def test_a_step_that_fails_for_good_fails_the_operation_with_the_reason(
    acme: Caller, monkeypatch: Any
) -> None:
    monkeypatch.setenv("STRIPEMETER_FAULT_POINTS", "backfill.stored=raise")
    answer = post(acme, body(acme, csvData=HEADER + ROW.format(1, 1)))
    status = status_of(acme, answer)
    assert status["status"] == "failed"
    assert "backfill.stored" in status["errorMessage"]
    assert Event.objects.count() == 0
    monkeypatch.delenv("STRIPEMETER_FAULT_POINTS")
    operation = Operation.objects.get()
    operations.resume(
        tenant_id=acme.tenant.pk, operation_id=operation.id, actor="t", now=clock.now()
    )
    assert counts(status_of(acme, answer)) == (1, 1, 0, 0)


def test_backfills_of_others_are_unknown(acme: Caller, globex: Caller) -> None:
    answer = post(acme, body(acme, csvData=HEADER + ROW.format(1, 1)))
    identifier = answer.json()["operationId"]
    for path in (
        f"{URL}/{identifier}",
        f"{URL}/{identifier}/errors",
        f"/v1/operations/{identifier}",
    ):
        assert Client().get(path, headers=globex.headers).status_code == 404
    assert Client().get(f"{URL}/nonsense", headers=acme.headers).status_code == 404
    assert Client().get(URL, headers=globex.headers).json() == {"operations": [], "total": 0}
    listed = Client().get(URL, headers=acme.headers).json()
    assert (listed["total"], listed["operations"][0]["id"]) == (1, identifier)
    reader = make_caller(acme.tenant, scopes=["events:read"])
    assert post(reader, body(acme, csvData=HEADER)).status_code == 403


@pytest.mark.parametrize("case", bad_inputs("backfill"), ids=lambda case: case["id"])
def test_published_bad_backfills(
    acme: Caller, globex: Caller, case: dict[str, Any], monkeypatch: Any
) -> None:
    monkeypatch.setattr(backfill, "CHUNK_ROWS_MAX", 5_000)
    answers = Catalogue(acme, globex).send(case)
    for answer in answers:
        assert answer.status_code in case["expect_status"], answer.content
        if answer.status_code >= 400:
            assert {"code", "message", "requestId"} <= answer.json().keys()
    tasks.backfill()
    checks = case.get("check", [])
    if "no_write" in checks:
        assert not Event.objects.exists()
        assert not Operation.objects.exists()
    totals = [backfill.counts_of(row) for row in Operation.objects.all()]
    accepted = sum(row["accepted"] for row in totals)
    assert Event.objects.count() == accepted
    for check in checks:
        name, _, value = check.partition("=")
        if name == "rows_failed" and totals:
            assert sum(row["failed"] for row in totals) == int(value)
        if name in {"accepted", "total_accepted"}:
            assert accepted == int(value)
        if name == "rows_accounted":
            assert all(row["processed"] == row["total"] for row in totals)
