"""Exports of a period: complete, equal to every other number, linked and gone in time."""

import csv
import hashlib
import io
import json
from decimal import Decimal
from urllib.parse import urlsplit

import pytest
import time_machine
from pyarrow import parquet

from reconciliation.exports.content import open_source, sheets_of
from reconciliation.exports.writers import FORMATS, write
from reconciliation.models import Export, ExportChunk
from reconciliation.services import exports
from stripemeter.lib import clock
from stripemeter.lib.periods import utc_month
from stripemeter.tenancy.recognition import forget_cached_keys
from tests.builders.tenancy import make_caller
from tests.reconciliation.injecting import foreign
from tests.reconciliation.running import reconcile, settled


@pytest.fixture
def told(world):
    """Two customers, one of them with a hostile name, and a finding."""
    world.mapping(local_price={"model": "flat", "currency": "USD", "unitPrice": "0.05"})
    world.customer('=HYPERLINK("x")')
    world.use(5)
    world.use("2.5", customer='=HYPERLINK("x")')
    world.use(9, tenant=world.globex)
    world.push()
    foreign(world, 3)
    settled(world)
    reconcile(world)
    return world


def made(world, file_format: str = "csv") -> Export:
    export = exports.request_export(
        tenant_id=world.acme.pk,
        period=utc_month(world.now),
        file_format=file_format,
        actor="ada",
        now=world.now,
    )
    return exports.execute(exports.claim(now=world.now, export_id=export.pk), clock=world.clock)


def rows_of(export: Export, file: str) -> list[list[str]]:
    text = b"".join(exports.content(export, file)).decode()
    return list(csv.reader(io.StringIO(text, newline="")))


def test_an_export_holds_every_sheet_and_its_manifest_proves_it(told):
    export = made(told)
    assert (export.status, export.error) == ("done", "")
    rows = sum(sheet["rows"] for sheet in export.manifest["sheets"])
    assert (export.rows_written, export.rows_expected) == (rows, rows)
    names = [each["name"] for each in export.manifest["files"]]
    assert names == [
        "reconciliation.csv", "usage.csv", "adjustments.csv", "findings.csv", "pushes.csv",
        "unbilled.csv",
    ]  # fmt: skip
    for each in export.manifest["files"]:
        data = b"".join(exports.content(export, each["name"]))
        assert (len(data), hashlib.sha256(data).hexdigest()) == (each["bytes"], each["sha256"])


def test_the_totals_are_those_of_counters_and_summary(told, client):
    forget_cached_keys()
    export = made(told)
    usage = rows_of(export, "usage.csv")
    assert usage[-1][0] == "TOTAL"
    total = usage[0].index("total")
    assert Decimal(usage[-1][total]) == Decimal("7.5")
    assert sum(Decimal(row[total]) for row in usage[1:-1]) == Decimal("7.5")
    lines = rows_of(export, "reconciliation.csv")
    assert lines[0][:7] == [
        "subscription_item_id", "period", "local", "stripe", "drift_abs", "drift_pct", "status",
    ]  # fmt: skip
    caller = make_caller(told.acme)
    body = client.get(
        "/v1/reconciliation/summary?tenantId=acme&periodStart=2026-11&periodEnd=2026-11"
        "&decimals=string",
        headers=caller.headers,
    ).json()
    assert lines[-1][2:5] == [body["overall"][name] for name in ("local", "stripe", "drift_abs")]


def test_every_cell_is_inert_and_no_other_tenant_is_in_it(told):
    export = made(told)
    customers = {row[0] for row in rows_of(export, "usage.csv")[1:-1]}
    assert customers == {"c1", '\'=HYPERLINK("x")'}
    everything = b"".join(
        b"".join(exports.content(export, each["name"])) for each in export.manifest["files"]
    )
    assert b'"=' not in everything
    assert told.customers[told.globex.pk, "c1", "live"].encode() not in everything


def test_findings_and_accruals_carry_money(told):
    export = made(told)
    header, *found = rows_of(export, "findings.csv")
    assert found[0][header.index("cause")] == "foreign_writer"
    assert found[0][header.index("amount_minor")] == "-15"
    header, *_, total = rows_of(export, "unbilled.csv")
    assert total[header.index("unbilled_minor")] == "37.5"


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_same_snapshot_gives_the_same_bytes(told, tmp_path, file_format):
    written = []
    with open_source(told.acme.pk, utc_month(told.now)) as source:
        for number in range(2):
            folder = tmp_path / str(number)
            folder.mkdir()
            paths = write(sheets_of(source), folder, file_format, lambda _: None)
            written.append([path.read_bytes() for path in paths])
            told.use(1)
    assert written[0] == written[1]


def test_parquet_and_json_say_the_same_numbers(told):
    export = made(told, "parquet")
    data = b"".join(exports.content(export, "usage.parquet"))
    totals = parquet.read_table(io.BytesIO(data)).column("total").to_pylist()
    export = made(told, "json")
    document = json.loads(
        b"".join(exports.content(export, "usage.json")), parse_float=Decimal, parse_int=Decimal
    )
    assert sorted(totals) == sorted(row["total"] for row in document["rows"])


def test_an_export_whose_worker_died_is_written_by_another(told, monkeypatch):
    export = exports.request_export(
        tenant_id=told.acme.pk,
        period=utc_month(told.now),
        file_format="csv",
        actor="ada",
        now=told.now,
    )
    monkeypatch.setenv("STRIPEMETER_FAULT_POINTS", "export.written=raise@1")
    with pytest.raises(RuntimeError):
        exports.execute(exports.claim(now=told.now), clock=told.clock)
    told.move(minutes=10)
    done = exports.execute(exports.claim(now=told.now), clock=told.clock)
    assert (done.pk, done.status, done.attempt) == (export.pk, "done", 2)


def test_links_open_one_file_for_a_while(told, client, monkeypatch):
    forget_cached_keys()
    monkeypatch.setattr(clock, "now", told.clock)
    monkeypatch.setattr("reconciliation.exports_api.wake", lambda: None)
    ada, stranger = make_caller(told.acme), make_caller(told.globex)
    asked = client.post(
        "/v1/reconciliation/exports",
        {"period": "2026-11", "format": "csv"},
        content_type="application/json",
        headers=ada.headers,
    )
    assert asked.status_code == 202
    path = asked.headers["Location"]
    assert client.get(path, headers=stranger.headers).status_code == 404
    exports.execute(exports.claim(now=told.now), clock=told.clock)
    body = client.get(path, headers=ada.headers).json()
    assert body["rowsWritten"] >= 4
    url = urlsplit(body["files"][1]["url"])
    answer = client.get(f"{url.path}?{url.query}")
    data = b"".join(answer.streaming_content)
    assert hashlib.sha256(data).hexdigest() == body["files"][1]["sha256"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert client.get(f"{url.path}?{url.query}x").status_code == 400
    with time_machine.travel(clock.datetime.now(clock.UTC).timestamp() + 3_600):
        assert client.get(f"{url.path}?{url.query}").status_code == 400


def test_files_are_deleted_when_they_expire(told):
    made(told)
    assert ExportChunk.objects.exists()
    told.move(days=8)
    assert exports.expire(now=told.now) == 1
    assert not ExportChunk.objects.exists()
    assert Export.objects.get().status == "expired"
