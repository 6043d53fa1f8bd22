"""The drill of docs/runbooks: dump, lose, restore, verify, and let the clients send again."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django.core.management import call_command
from psycopg import sql

from billing.stripe_sandbox.process import SandboxProcess
from ledger.models import Event
from stripemeter.runtime.binaries import find_postgres
from stripemeter.runtime.postgres import APP_ROLE, OWNER_ROLE
from tests.builders.billing import make_world
from tests.builders.ledger import fold, make_event, store
from tests.builders.tenancy import make_caller, make_tenant
from tests.support.cluster import Cluster
from tests.support.environment import ROOT, role_url

pytestmark = pytest.mark.xdist_group("shutdown")


def program(name: str) -> str:
    return str(find_postgres().folder / name)


def superuser_url(cluster: Cluster, database: str) -> str:
    with cluster.connect(database) as connection:
        info = connection.info
        return f"postgresql://{info.user}@/{database}?host={info.host}&port={info.port}"


@pytest.fixture
def restored(cluster: Cluster, transactional_db: None) -> Iterator[str]:
    """The name of a database to restore into."""
    name = f"{cluster.run.database}_restored"
    cluster.drop_database(name)
    yield name
    cluster.drop_database(name)


def run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def manage(cluster: Cluster, database: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """A command of ours on the restored database."""
    env = os.environ | {
        "DATABASE_URL": role_url(cluster.run, APP_ROLE, database),
        "DATABASE_OWNER_URL": role_url(cluster.run, OWNER_ROLE, database),
        "DJANGO_SETTINGS_MODULE": "stripemeter.settings",
    }
    return subprocess.run(
        [sys.executable, "manage.py", *words], cwd=ROOT, env=env, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def back_up(cluster: Cluster, file: Path) -> None:
    url = superuser_url(cluster, cluster.run.database)
    run(program("pg_dump"), "--format=custom", f"--file={file}", f"--dbname={url}")


def restore(cluster: Cluster, file: Path, database: str) -> None:
    with cluster.connect() as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0").format(
                sql.Identifier(database), sql.Identifier(OWNER_ROLE)
            )
        )
    url = superuser_url(cluster, database)
    run(program("pg_restore"), "--exit-on-error", f"--dbname={url}", str(file))


def test_a_restored_backup_is_whole_and_says_what_it_lacks(
    cluster: Cluster, restored: str, tmp_path: Path
) -> None:
    acme, globex = make_tenant("acme"), make_tenant("globex")
    anchor, dump = tmp_path / "heads.jsonl", tmp_path / "backup.dump"
    store(acme, *(make_event(n, idempotencyKey=f"a{n}") for n in range(1, 51)))
    store(globex, make_event("0.5", idempotencyKey="g", meta={"ü": 1.5}))
    fold()
    call_command("seal", anchor=anchor)
    back_up(cluster, dump)
    lost = [make_event(n, idempotencyKey=f"b{n}") for n in range(1, 8)]
    store(acme, *lost)
    call_command("seal", anchor=anchor)
    assert Event.objects.count() == 58

    restore(cluster, dump, restored)
    whole = manage(cluster, restored, "verify_ledger")
    assert (whole.returncode, whole.stdout.splitlines()[-1]) == (
        0, "2 seals over 51 events, 0 anchors: 0 broken",
    ), whole.stderr  # fmt: skip
    counted = manage(cluster, restored, "verify_counters")
    assert counted.stdout == "0 counters differ, 0 repaired\n", counted.stderr
    late = manage(cluster, restored, "verify_ledger", "--anchor", str(anchor))
    assert late.returncode == 1
    assert "acme seal 2: was anchored and is not there" in late.stdout

    with psycopg.connect(role_url(cluster.run, APP_ROLE, restored)) as app:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute("DELETE FROM ledger_event")
        app.rollback()
        assert app.execute("SELECT count(*) FROM ledger_event").fetchone() == (0,)  # the wall
        app.execute("SELECT set_config('stripemeter.tenant', 'all', false)")
        digest = "SELECT md5(string_agg(e::text, '|' ORDER BY e.key)) FROM ledger_event e"
        kept = app.execute(digest).fetchone()
    with cluster.connect(cluster.run.database) as original:
        original.execute("SET timezone = 'UTC'")
        before = original.execute(f"{digest} WHERE key_text NOT LIKE 'b%'").fetchone()
    assert kept == before


def test_clients_that_send_again_fill_the_gap_and_double_nothing(
    cluster: Cluster, restored: str, tmp_path: Path
) -> None:
    caller = make_caller("acme")
    dump = tmp_path / "backup.dump"
    events = [make_event(1, idempotencyKey=f"k{n}") for n in range(10)]
    store(caller.tenant, *events[:6])
    fold()
    back_up(cluster, dump)
    store(caller.tenant, *events[6:])
    restore(cluster, dump, restored)
    again = manage(cluster, restored, "shell", "--no-imports", "-c", _SEND_AGAIN)
    assert again.stdout.split() == ["4", "6", "10"], again.stderr


def test_the_push_gate_is_shut_in_the_restored_database(
    cluster: Cluster, restored: str, sandbox: SandboxProcess, tmp_path: Path
) -> None:
    world, dump = make_world(sandbox), tmp_path / "backup.dump"
    world.mapping()
    world.use(5)
    assert world.push().acknowledged == 1
    back_up(cluster, dump)
    world.use(3)
    assert world.push().acknowledged == 1  # the backup knows nothing of this one
    restore(cluster, dump, restored)
    checked = manage(cluster, restored, "shell", "--no-imports", "-c", _CHECK_GATE)
    assert checked.stdout.split() == ["1", "0"], checked.stderr
    assert world.at_stripe() == 8


_CHECK_GATE = """
from billing.services import gate, running
from stripemeter.lib import clock
print(len(gate.check(now=clock.now())))
print(running.run_pushes(clock=clock.now, seconds=3).acknowledged)
"""
_SEND_AGAIN = """
from counters.models import Counter
from stripemeter.tenancy.models import Tenant
from tests.builders.billing import make_world
from tests.builders.ledger import fold, make_event, store
events = [make_event(1, idempotencyKey=f"k{n}") for n in range(10)]
found = store(Tenant.objects.get(key="acme"), *events)
fold()
print(found.accepted, found.duplicates, int(Counter.objects.get().sum))
"""
