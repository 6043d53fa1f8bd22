"""`migrate` beside a web server under load: every request is answered, nothing is lost.

A database of its own is taken back by two migrations; then the server starts and clients post
and read without a pause, while the migrations of this release and of a next one, which alter the
tables that are written to, run with a reader in their way.
"""

import http.client
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from stripemeter.lib import clock
from stripemeter.lib.instants import rfc3339
from stripemeter.runtime.postgres import APP_ROLE, OWNER_ROLE
from stripemeter.runtime.processes import wait_until
from tests.support.cluster import SEES_ALL_TENANTS, Cluster
from tests.support.environment import ROOT, role_url
from tests.support.processes import HttpProcess, ServerProcess, granian

pytestmark = pytest.mark.xdist_group("shutdown")

#: The release before: what-if runs and terms are not there yet.
_BEFORE = """
import django
django.setup()
from django.core.management import call_command
from tests.builders.tenancy import make_caller
print(make_caller("acme").plaintext)
call_command("migrate", "billing", "0007", verbosity=0, skip_checks=True)
"""
_NOW = """
import django
from django.conf import settings
settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "tests.deploy.next_release"]
django.setup()
from django.core.management import call_command
call_command("migrate", lock_timeout_ms=300, skip_checks=True)
"""


@pytest.fixture
def database(cluster: Cluster, transactional_db: None) -> Iterator[str]:
    """A database that may be left in any state."""
    name = f"{cluster.run.database}_migrated"
    cluster.make_database(name)
    yield name
    cluster.drop_database(name)


def environment(cluster: Cluster, database: str) -> dict[str, str]:
    """Variables of processes that work on ``database``."""
    return {
        "DATABASE_URL": role_url(cluster.run, APP_ROLE, database),
        "DATABASE_OWNER_URL": role_url(cluster.run, OWNER_ROLE, database),
        "DJANGO_SETTINGS_MODULE": "stripemeter.settings",
        "TENANT_RATE_LIMIT": "10000000",
        "PYTHONPATH": str(ROOT),
    }


class Client(threading.Thread):
    """Posts and reads without a pause and repeats nothing."""

    def __init__(self, number: int, port: int, key: str) -> None:
        super().__init__(daemon=True)
        self.number, self.port = number, port
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self.done = threading.Event()
        self.statuses: Counter[int] = Counter()
        self.sent = 0

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=240)
        try:
            while not self.done.is_set():
                events = [self._event(place) for place in range(5)]
                self._ask(connection, "POST", "/v1/events/ingest", {"events": events})
                self.sent += 5
                query = "tenantId=acme&customerRef=c"
                self._ask(connection, "GET", f"/v1/usage/current?{query}")
                self._ask(connection, "GET", f"/v1/events?{query}&limit=5")
        finally:
            connection.close()

    def _event(self, place: int) -> dict[str, object]:
        return {
            "tenantId": "acme", "metric": "m", "customerRef": "c", "quantity": 1,
            "ts": rfc3339(clock.now()), "idempotencyKey": f"{self.number}-{self.sent + place}",
        }  # fmt: skip

    def _ask(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: object = None
    ) -> None:
        connection.request(method, path, json.dumps(body) if body else None, self.headers)
        with connection.getresponse() as answer:
            self.statuses[answer.status] += 1
            answer.read()


def test_migrations_of_busy_tables_refuse_no_request_and_lose_no_event(
    cluster: Cluster, database: str, tmp_path: Path
) -> None:
    env = environment(cluster, database)
    owner = env | {"STRIPEMETER_DB_ROLE": "owner", "PGOPTIONS": SEES_ALL_TENANTS}
    before = subprocess.run(
        [sys.executable, "-c", _BEFORE], cwd=ROOT, env=os.environ | owner,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert before.returncode == 0, before.stderr
    server = HttpProcess(granian, tmp_path / "web.log", health="/health/live", env=env)
    server.start()
    clients = [Client(number, server.port, before.stdout.split()[0]) for number in range(3)]
    migrating = ServerProcess([sys.executable, "-c", _NOW], tmp_path / "migrate.log", env=owner)
    try:
        for client in clients:
            client.start()
        assert wait_until(lambda: all(client.sent >= 15 for client in clients), timeout_s=400)
        with cluster.connect(database) as reader, reader.transaction():
            reader.execute("SELECT count(*) FROM ledger_event")  # holds its lock until the end
            migrating.start()
            assert wait_until(lambda: "A table is in use" in migrating.output(), timeout_s=400)
        assert wait_until(lambda: not migrating.running, timeout_s=400), migrating.output()
        after = [client.sent for client in clients]
        assert wait_until(
            lambda: all(client.sent > sent for client, sent in zip(clients, after, strict=True)),
            timeout_s=400,
        )
    finally:
        for client in clients:
            client.done.set()
        for client in clients:
            client.join(timeout=300)
        migrating.kill()
        server.stop(patience_s=3)
    assert {status for client in clients for status in client.statuses} == {200}, server.output()
    for line in ("billing.0009_terms... OK", "next_release.0002_look_back... OK"):
        assert line in migrating.output()
    with cluster.connect(database) as connection:
        stored = connection.execute(
            "SELECT count(*), sum(quantity), count(next_release) FROM ledger_event"
        ).fetchone()
    sent = sum(client.sent for client in clients)
    assert stored == (sent, Decimal(sent), 0)
