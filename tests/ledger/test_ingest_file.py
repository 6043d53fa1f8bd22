"""A usage file becomes events once, however often and however far it is run."""

import gzip
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db.models import Sum

from ledger.models import Event
from tests.builders.tenancy import make_tenant

pytestmark = pytest.mark.django_db

LOG = """\
10.0.0.1 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200 100 "-" "curl"
10.0.0.1 - bob [17/May/2015:10:05:03 +0200] "GET /b HTTP/1.1" 200 - "-" "curl \\"x\\""
10.0.0.2 - - [17/May/2015:10:05:04 +0000] "GET /c HTTP/1.1" 200 250 "-" "cut off in the mid
"""


@pytest.fixture(autouse=True)
def _tenants(settings, tmp_path):
    settings.RUNTIME_DIR = tmp_path
    make_tenant("acme")
    make_tenant("globex")


def write(tmp_path: Path, name: str, text: str) -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def totals() -> dict[str, Decimal]:
    rows = Event.objects.values_list("customer_ref").annotate(total=Sum("quantity"))
    return dict(rows)


def test_an_access_log_counts_bytes_per_client(tmp_path):
    log = write(tmp_path, "access.log", LOG)
    call_command("ingest_file", log, "--tenant", "acme", "--map", "quantity=bytes")
    assert totals() == {"10.0.0.1": 100, "10.0.0.2": 250}


def test_an_access_log_counts_one_per_request_by_default(tmp_path):
    log = write(tmp_path, "access.log", LOG)
    call_command("ingest_file", log, "--tenant", "acme")
    assert totals() == {"10.0.0.1": 2, "10.0.0.2": 1}


def test_a_second_run_counts_nothing_twice(tmp_path, capsys):
    log = write(tmp_path, "access.log", LOG)
    call_command("ingest_file", log, "--tenant", "acme")
    call_command("ingest_file", log, "--tenant", "acme")
    assert "0 accepted, 3 duplicates" in capsys.readouterr().out
    assert totals() == {"10.0.0.1": 2, "10.0.0.2": 1}


def test_bad_lines_are_listed_with_their_number_and_the_rest_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "customerRef,quantity,ts\nc,1,2026-01-01T00:00:00Z\nc,x,2026-01-01T00:00:00Z\nc,1\n"
    path = write(tmp_path, "usage.csv", text)
    with pytest.raises(CommandError, match="2 lines are not usage"):
        call_command("ingest_file", path, "--tenant", "acme", "--set", "metric=calls")
    assert totals() == {"c": 1}
    errors = (tmp_path / "usage.csv.errors.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in errors] == ['"line"', '"3"', '"4"']


def test_newline_delimited_json_may_be_compressed(tmp_path):
    line = '{"metric":"m","customerRef":"c","quantity":0.1,"ts":"2026-01-01T00:00:00Z"}\n'
    path = tmp_path / "usage.ndjson.gz"
    path.write_bytes(gzip.compress((line * 3).encode()))
    call_command("ingest_file", str(path), "--tenant", "globex")
    assert totals() == {"c": Decimal("0.3")}


def test_a_csv_with_two_columns_of_one_name_is_refused(tmp_path):
    path = write(tmp_path, "usage.csv", "customerRef,ts,ts\n")
    with pytest.raises(CommandError, match="same name"):
        call_command("ingest_file", path, "--tenant", "acme")


def test_a_checkpoint_skips_the_lines_already_stored(tmp_path, settings, capsys):
    from ledger.services.file_ingest import file_key

    log = write(tmp_path, "access.log", LOG)
    folder = tmp_path / "ingest"
    folder.mkdir()
    name = file_key(Path(log)).removeprefix("file:") + ".line"
    (folder / name).write_text("2")
    call_command("ingest_file", log, "--tenant", "acme")
    assert "1 lines: 1 accepted" in capsys.readouterr().out
    assert not (folder / name).exists()
