"""The database dies at once, again and again, under load: what was acknowledged is there once.

Clients keep journals of their own, fsynced before and after each call; a server of its own with
production's durability is stopped as by ``pg_ctl stop -m immediate`` and recovers from its log.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from stripemeter.runtime.postgres import APP_ROLE, OWNER_ROLE, PostgresServer
from stripemeter.runtime.processes import wait_until
from tests.support import processes
from tests.support.cluster import Cluster, durable_copy
from tests.support.environment import ROOT
from tests.support.journal_client import BATCH, events_of

CLIENTS = 3
DATABASE = "stripemeter_template"
_CALLER = """
import django; django.setup()
from tests.builders.tenancy import make_caller
make_caller("globex"); print(make_caller("acme").plaintext)
"""
#: Folds as the worker's task does; a lost connection is closed and made anew.
_FOLDER = """
import django; django.setup()
import time
from django.db import DatabaseError, connection
from counters.services.fold import fold_once
from stripemeter.lib import clock
while True:
    try:
        fold_once(now=clock.now())
    except DatabaseError:
        connection.close()
    time.sleep(0.02)
"""


@pytest.fixture
def server(cluster: Cluster) -> Iterator[PostgresServer]:
    """A durable server with our tables, which may be crashed."""
    with tempfile.TemporaryDirectory(prefix="stripemeter-crash-", dir="/tmp") as folder:
        os.chmod(folder, 0o711)
        server = durable_copy(cluster, Path(folder) / "postgres")
        if server is None:
            pytest.skip("an external server must not be crashed, and no embedded one is kept")
        yield server
        server.destroy()


def crash(server: PostgresServer) -> None:
    """``pg_ctl stop -m immediate``: every process quits, nothing is flushed."""
    pid = server.pid()
    assert pid is not None
    os.kill(pid, signal.SIGQUIT)
    assert wait_until(lambda: server.pid() is None, timeout_s=240)


def journal_of(path: Path) -> list[dict[str, int]]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def acked(paths: list[Path]) -> int:
    return sum("acked" in line for path in paths for line in journal_of(path))


def await_progress(journals: list[Path]) -> None:
    """Wait until some more batches are acknowledged: the load is on, the last crash is over."""
    reached = acked(journals) + 3 * CLIENTS
    assert wait_until(lambda: acked(journals) >= reached, timeout_s=240), "no progress"


@pytest.mark.parametrize(
    "crashes", [4, pytest.param(50, marks=pytest.mark.large)], ids=["small", "large"]
)
def test_an_immediate_stop_of_the_database_loses_and_doubles_nothing(
    server: PostgresServer, tmp_path: Path, crashes: int
) -> None:
    env = {
        "DATABASE_URL": server.url(APP_ROLE, DATABASE),
        "DATABASE_OWNER_URL": server.url(OWNER_ROLE, DATABASE),
        "DJANGO_SETTINGS_MODULE": "stripemeter.settings",
        "TENANT_RATE_LIMIT": "10000000",
    }
    key = run([sys.executable, "-c", _CALLER], env).strip()
    web = processes.HttpProcess(
        processes.granian, tmp_path / "web.log", health="/health/live", env=env
    )
    folder = processes.ServerProcess(
        [sys.executable, "-c", _FOLDER], tmp_path / "fold.log", env=env
    )
    stop, journals = tmp_path / "stop", [tmp_path / f"journal-{n}" for n in range(CLIENTS)]
    clients = [
        processes.ServerProcess(
            [sys.executable, "-m", "tests.support.journal_client", web.url, key, str(journal),
             str(number), str(stop)],
            tmp_path / f"client-{number}.log",
        )
        for number, journal in enumerate(journals)
    ]  # fmt: skip
    try:
        for process in (web, folder, *clients):
            process.start()
        for _ in range(crashes):
            await_progress(journals)
            crash(server)
            server.start()
        stop.touch()
        assert wait_until(lambda: not any(each.running for each in clients), timeout_s=240)
        assert web.running
        assert folder.running
    finally:
        for process in (*clients, folder, web):
            process.kill()
    verified = run([sys.executable, "manage.py", "shell", "-c", _FINISH], env)
    assert "differences: 0" in verified
    _compare(server, journals)


_FINISH = """
from counters.services.fold import fold_everything
from counters.services.verify import verify_counters
from stripemeter.lib import clock
fold_everything(now=clock.now())
print("differences:", verify_counters(now=clock.now()).count)
"""


def run(command: list[str], env: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2_000:]
    return done.stdout


def _compare(server: PostgresServer, journals: list[Path]) -> None:
    """The ledger holds each acknowledged event once; the counters hold its quantity once."""
    keys: dict[str, int] = {}
    totals: dict[str, Decimal] = {}
    for number, path in enumerate(journals):
        for line in journal_of(path):
            if "acked" not in line:
                continue
            assert line["accepted"] + line["duplicates"] == BATCH
            # All or nothing: a batch whose answer was lost is a whole batch of duplicates.
            assert line["accepted"] in {0, BATCH}
            for event in events_of(number, line["acked"]):
                keys[event["idempotencyKey"]] = event["quantity"]
                ref = event["customerRef"]
                totals[ref] = totals.get(ref, Decimal(0)) + event["quantity"]
    with server.connect(DATABASE) as connection:
        stored: dict[str, Any] = {}
        for key, quantity, copies in connection.execute(
            "SELECT key_text, min(quantity), count(*) FROM ledger_event GROUP BY 1"
        ):
            assert copies == 1, key
            stored[key] = int(quantity)
        counted = dict(
            connection.execute(
                "SELECT customer_ref, sum(sum + adjusted) FROM counters_counter GROUP BY 1"
            ).fetchall()
        )
    assert stored == keys
    assert counted == totals
    print(f"{len(keys)} acknowledged events, {len(stored)} stored")
