"""A month leaves the ledger only as a proven copy, and its keys stay used for ever."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command

from ledger.models import Event
from stripemeter.runtime.postgres import APP_ROLE, OWNER_ROLE, PostgresServer
from stripemeter.tenancy.models import AuditEntry
from tests.builders.ledger import make_event, store
from tests.builders.tenancy import Caller
from tests.support.cluster import Cluster, durable_copy
from tests.support.environment import ROOT

DATABASE = "stripemeter_template"
OCTOBER = datetime(2026, 10, 31, 23, 59, 59, 999_999, tzinfo=UTC)


def export(folder: Path, month: str = "2026-10", *more: str) -> str:
    out = StringIO()
    call_command("export_month", month, "--out", str(folder), *more, stdout=out)
    return out.getvalue()


def verify(*manifests: Path, file_only: bool = False) -> str:
    out = StringIO()
    flags = ["--file-only"] if file_only else []
    call_command("export_month", "--verify", *map(str, manifests), *flags, stdout=out)
    return out.getvalue()


def test_a_closed_month_is_exported_with_every_digit(
    acme: Caller, globex: Caller, tmp_path: Path
) -> None:
    store(acme.tenant, make_event("1.000001", ts=OCTOBER, idempotencyKey="a", meta={"x": "ü"}))
    store(acme.tenant, make_event(2, ts=datetime(2026, 10, 1, tzinfo=UTC), idempotencyKey="b"))
    store(acme.tenant, make_event(4, ts=datetime(2026, 11, 1, tzinfo=UTC), idempotencyKey="c"))
    store(globex.tenant, make_event(8, ts=OCTOBER))
    export(tmp_path)
    manifest = json.loads((tmp_path / "events-acme-2026-10.manifest.json").read_text())
    assert (manifest["rows"], manifest["quantities"]) == (2, {"api_calls": "3.000001"})
    table = pq.read_table(tmp_path / manifest["file"]).to_pylist()
    row = next(row for row in table if row["key_text"] == "a")
    assert (row["ts"], str(row["quantity"].normalize()), row["meta"]) == (
        OCTOBER, "1.000001", '{"x": "ü"}',
    )  # fmt: skip
    assert verify(*tmp_path.glob("*.manifest.json")).count("as its manifest says") == 2
    assert AuditEntry.objects.filter(action="ledger.exported").count() == 2


def test_a_damaged_file_and_events_that_came_since_are_told(acme: Caller, tmp_path: Path) -> None:
    store(acme.tenant, make_event(1, ts=OCTOBER, idempotencyKey="a"))
    export(tmp_path)
    manifest = next(tmp_path.glob("*.manifest.json"))
    store(acme.tenant, make_event(1, ts=OCTOBER, idempotencyKey="b"))
    with pytest.raises(SystemExit):
        verify(manifest)
    assert "as its manifest says" in verify(manifest, file_only=True)
    target = next(tmp_path.glob("*.parquet"))
    target.write_bytes(target.read_bytes()[:-1] + b"\0")
    with pytest.raises(SystemExit):
        verify(manifest, file_only=True)


@pytest.mark.parametrize("month", ["2026-13", "october", "2999-01"])
def test_only_a_month_that_is_over_is_exported(acme: Caller, tmp_path: Path, month: str) -> None:
    with pytest.raises(CommandError):
        export(tmp_path, month)
    assert not Event.objects.exists()
    assert list(tmp_path.iterdir()) == []


# --- From one table to months -----------------------------------------------------------


class Installation:
    """A database of its own, which may be cut; Python runs on it in processes."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.env = {
            "DATABASE_URL": server.url(APP_ROLE, DATABASE),
            "DATABASE_OWNER_URL": server.url(OWNER_ROLE, DATABASE),
            "DJANGO_SETTINGS_MODULE": "stripemeter.settings",
            "LOG_LEVEL": "ERROR",
        }

    def manage(self, *arguments: str, fails: bool = False) -> str:
        """Run a command as the owner of the tables."""
        role = {"STRIPEMETER_DB_ROLE": "owner"}
        return self._run([sys.executable, "manage.py", *arguments], role, fails)

    def python(self, script: str) -> str:
        """Run as the application, with ``acme`` and the builders at hand."""
        return self._run([sys.executable, "-c", _PRELUDE + script], {}, fails=False)

    def _run(self, command: list[str], more: dict[str, str], fails: bool) -> str:
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **self.env, **more},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode != 0) == fails, done.stdout + done.stderr[-2_000:]
        return done.stdout + done.stderr

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.server.connect(DATABASE) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []


_PRELUDE = """
import django; django.setup()
from datetime import UTC, datetime, timedelta
from io import StringIO
from django.core.management import CommandError, call_command
from django.db import connection
from counters.models import Counter
from counters.services.recompute import recompute
from counters.services.verify import _scope
from stripemeter.lib import clock
from stripemeter.tenancy.models import Tenant
from tests.builders.ledger import fold, make_event, make_metric, store
from tests.builders.tenancy import make_tenant
from counters.services import set_period_state
from counters.services.verify import verify_counters
def send(day, key, quantity=1):
    outcome = store(Tenant.objects.get(key="acme"), make_event(quantity, ts=day,
        idempotencyKey=key), now=clock.now())
    print(outcome.results[0].status)
AUGUST = datetime(2026, 8, 15, tzinfo=UTC)
FILL = '''
INSERT INTO ledger_event (tenant_id, batch_id, ts, recorded_at, key, fingerprint, metric_id,
    customer_ref, quantity, source)
SELECT t.id, 0, '2026-08-01Z'::timestamptz + (i %% 100) * interval '1 day', now(),
       md5('k' || i)::uuid, md5('f' || i)::uuid, m.id, 'cus_' || i %% 50, i %% 7, 'http'
FROM generate_series(1, %s) i, tenancy_tenant t JOIN ledger_metric m ON m.tenant_id = t.id
WHERE t.key = 'acme'
'''
"""


@pytest.fixture
def installation(cluster: Cluster) -> Iterator[Installation]:
    with tempfile.TemporaryDirectory(prefix="stripemeter-retention-", dir="/tmp") as folder:
        os.chmod(folder, 0o711)
        server = durable_copy(cluster, Path(folder) / "postgres")
        if server is None:
            pytest.skip("no embedded server to cut up")
        yield Installation(server)
        server.destroy()


@pytest.mark.parametrize(
    "events", [3_000, pytest.param(1_000_000, marks=pytest.mark.large)], ids=["small", "large"]
)
def test_the_ledger_is_cut_into_months_and_a_month_dropped_without_losing_a_key(
    installation: Installation, tmp_path: Path, events: int
) -> None:
    run = installation
    run.python(
        "make_metric(make_tenant('acme')); make_tenant('globex'); send(AUGUST, 'old')\n"
        f"with connection.cursor() as c: c.execute(FILL, [{events}])\n"
        "fold(clock.now()); recompute(_scope(Tenant.objects.get(key='acme'), None, None))"
    )
    before = run.sql("SELECT count(*), sum(quantity) FROM ledger_event")
    assert f"{events + 1} events in" in run.manage("partition_ledger", "--cut")
    assert run.sql("SELECT count(*), sum(quantity) FROM ledger_event") == before
    august = run.sql("SELECT count(*) FROM ledger_event_2026_08")[0][0] + 1
    assert august > 1

    # The same event is a duplicate, other content a conflict, and the guard stands.
    sends = (
        "send(AUGUST, 'old'); send(AUGUST, 'old', 9); send(AUGUST, 'new'); send(AUGUST, 'new')\n"
    )
    told = run.python(
        sends + "fold(clock.now()); print(verify_counters(now=clock.now()).count)\n"
        "try:\n    call_command('drop_month', '2026-08')\n"
        "except CommandError as error: print('not frozen' in str(error))\n"
        "t = Tenant.objects.get(key='acme')\n"
        "for ref in set(Counter.objects.values_list('customer_ref', flat=True)):\n"
        "    set_period_state(tenant_id=t.pk, customer_ref=ref, period_start=AUGUST,"
        " state='frozen', now=clock.now())\n"
        f"call_command('export_month', '2026-08', '--out', {str(tmp_path)!r}, stdout=StringIO())"
    )
    assert told.split() == ["duplicate", "conflict", "accepted", "duplicate", "0", "True"]
    with pytest.raises(psycopg.Error, match="never changed"):
        run.sql("DELETE FROM ledger_event")

    drop = ["drop_month", "2026-08"]
    assert "no export" in run.manage(*drop, fails=True)
    manifests = [str(path) for path in tmp_path.glob("*.manifest.json")]
    assert f"{august} events dropped" in run.manage(*drop, *manifests)
    assert run.sql("SELECT count(*) FROM ledger_event")[0][0] == events + 2 - august
    told = run.python(sends + "print(verify_counters(now=clock.now()).count)")
    assert told.split() == ["duplicate", "conflict", "duplicate", "duplicate", "0"]
