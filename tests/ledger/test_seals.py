"""Seals: everything decided is sealed once, late committers included; tampering shows."""

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection
from psycopg import errors

from ledger.models import Event, Seal
from ledger.services import seals
from stripemeter.tenancy.models import Tenant
from tests.builders.ledger import NOW, make_event, store
from tests.builders.tenancy import make_tenant

Connect = Callable[..., "psycopg.Connection[Any]"]
INSERT = (
    "INSERT INTO ledger_event (tenant_id, batch_id, ts, recorded_at, key, fingerprint, metric_id,"
    " customer_ref, quantity, source) VALUES (%s, nextval('ledger_batch_seq'), now(), now(),"
    " gen_random_uuid(), gen_random_uuid(), 1, 'c', 1, 'http') RETURNING batch_id"
)


@pytest.fixture
def acme(transactional_db: None) -> Tenant:
    return make_tenant("acme")


@pytest.fixture
def globex(transactional_db: None) -> Tenant:
    return make_tenant("globex")


def seal(**options: Any) -> int:
    return seals.seal_ledger(now=NOW, **{"patience_s": 0, **options})


def reasons() -> list[tuple[str, int, str]]:
    breaks = seals.verify_ledger().breaks or []
    return [(found.tenant, found.sequence, found.reason) for found in breaks]


def shape() -> list[tuple[int, int, int, int, int]]:
    """Tenant, sequence, range and count of every seal."""
    fields = ("tenant_id", "sequence", "after_batch", "last_batch", "event_count")
    return list(Seal.objects.order_by("tenant_id", "sequence").values_list(*fields))


def write(tenant: Tenant, batches: int) -> None:
    """Two events a batch, with the quantities 1 and 2."""
    for _ in range(batches):
        key = f"{tenant.key}-{Event.objects.count()}"
        meta = {"ü": "\N{SNOWMAN}", "n": 1.5}
        store(tenant, *(make_event(n, meta=meta, idempotencyKey=f"{key}-{n}") for n in (1, 2)))


def test_every_event_is_sealed_once_and_ranges_leave_no_gap(acme: Tenant, globex: Tenant) -> None:
    for tenant in (acme, globex, acme):
        write(tenant, 1)
        store(tenant, make_event("0.000001", idempotencyKey=f"{tenant.key}-x"))
    assert seal(step_events=1) > 2
    assert seal() == 0
    store(acme, make_event(7))
    assert seal() == 1
    by_tenant: dict[int, list[tuple[int, int, int]]] = {}
    for tenant_id, sequence, after, last, _ in shape():
        by_tenant.setdefault(tenant_id, []).append((sequence, after, last))
    for ranges in by_tenant.values():
        assert [sequence for sequence, _, _ in ranges] == list(range(1, len(ranges) + 1))
        assert [after for _, after, _ in ranges] == [0, *(last for _, _, last in ranges[:-1])]
    verified = seals.verify_ledger()
    assert (verified.events, verified.breaks) == (Event.objects.count(), [])


def test_a_batch_that_commits_late_is_neither_skipped_nor_sealed_before_it_is_there(
    acme: Tenant, second_connection: Connect
) -> None:
    slow = second_connection()
    slow.execute(f"SELECT set_config('stripemeter.tenant', '{acme.pk}', false)")
    slow.commit()
    late = slow.execute(INSERT, [acme.pk]).fetchone()
    store(acme, make_event(1))  # draws a higher id and commits first
    assert seal() == 0  # the lower one is not decided yet
    assert Seal.objects.count() == 0
    slow.commit()
    assert seal() == 1
    ((_, _, after, last, count),) = shape()
    assert (after, count) == (0, 2)
    assert late is not None
    assert after < late[0] <= last
    assert reasons() == []


def test_what_is_not_sealed_yet_is_counted_and_the_head_is_shown(acme: Tenant) -> None:
    assert (seals.unsealed_events(acme.pk), seals.shown_head(acme.pk)) == (0, None)
    write(acme, 2)
    assert seals.unsealed_events(acme.pk) == 4
    seal()
    assert seals.unsealed_events(acme.pk) == 0
    head = seals.shown_head(acme.pk)
    assert head is not None
    assert (head["sequence"], len(head["hash"])) == (1, 64)


def test_a_batch_that_never_commits_leaves_no_gap(acme: Tenant, second_connection: Connect) -> None:
    slow = second_connection()
    slow.execute(f"SELECT set_config('stripemeter.tenant', '{acme.pk}', false)")
    slow.commit()
    slow.execute(INSERT, [acme.pk])
    store(acme, make_event(1))
    slow.rollback()
    assert seal() == 1
    assert reasons() == []


def test_a_run_waits_for_a_writer_that_is_under_way(
    acme: Tenant, second_connection: Connect
) -> None:
    slow = second_connection()
    slow.execute(f"SELECT set_config('stripemeter.tenant', '{acme.pk}', false)")
    slow.commit()
    slow.execute(INSERT, [acme.pk])
    releasing = threading.Timer(0.3, slow.commit)
    releasing.start()
    assert seal(patience_s=60) == 1
    releasing.join()
    assert shape()[0][4] == 1


def test_sealing_while_many_write_covers_every_event(acme: Tenant) -> None:
    done = threading.Event()
    started = threading.Barrier(4)

    def writer(number: int) -> None:
        try:
            started.wait(timeout=240)
            for place in range(40):
                store(acme, make_event(1, idempotencyKey=f"{number}-{place}"))
        finally:
            connection.close()

    def sealer() -> None:
        try:
            started.wait(timeout=240)
            while not done.is_set():
                seal(patience_s=60, step_events=7)
        finally:
            connection.close()

    writers = [threading.Thread(target=writer, args=(n,)) for n in range(2)]
    sealers = [threading.Thread(target=sealer) for _ in range(2)]
    for thread in (*writers, *sealers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in sealers:
        thread.join()
    seal(patience_s=60)
    assert sum(row[4] for row in shape()) == Event.objects.count() == 80
    assert reasons() == []


FORGED = (
    "INSERT INTO ledger_event SELECT tenant_id, batch_id, ts, recorded_at, gen_random_uuid(),"
    " fingerprint, metric_id, customer_ref, resource_id, quantity, source, key_text, meta"
    " FROM ledger_event LIMIT 1"
)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE ledger_event SET quantity = quantity + 1", "an event was altered"),
        ("UPDATE ledger_event SET ts = ts + interval '1 microsecond'", "an event was altered"),
        ("UPDATE ledger_event SET customer_ref = 'other'", "an event was altered"),
        ("UPDATE ledger_event SET meta = '{}'", "an event was altered"),
        ("DELETE FROM ledger_event WHERE quantity = 1", "holds 2 events, 4 were sealed"),
        (FORGED, "holds 5 events, 4 were sealed"),
        ("UPDATE ledger_seal SET event_count = 9", "the seal itself was altered"),
        ("UPDATE ledger_seal SET digest = sha256('x')", "the seal itself was altered"),
    ],
)
def test_what_a_superuser_changes_behind_our_back_shows(
    acme: Tenant, globex: Tenant, superuser: "psycopg.Connection[Any]", statement: str, reason: str
) -> None:
    write(acme, 2)
    seal()
    assert reasons() == []
    superuser.execute("SET session_replication_role = replica")  # triggers off
    superuser.execute(statement)
    assert reasons() == [("acme", 1, reason)]


def test_a_seal_taken_out_of_the_middle_shows(
    acme: Tenant, superuser: "psycopg.Connection[Any]"
) -> None:
    for _ in range(3):
        write(acme, 1)
        seal()
    superuser.execute("SET session_replication_role = replica")
    superuser.execute("DELETE FROM ledger_seal WHERE sequence = 2")
    assert ("acme", 3, "seal 2 is missing") in reasons()


@pytest.mark.parametrize(
    "change", ["UPDATE ledger_seal SET event_count = 1", "DELETE FROM ledger_seal"]
)
def test_the_application_may_not_change_seals(
    acme: Tenant, second_connection: Connect, change: str
) -> None:
    write(acme, 1)
    seal()
    with pytest.raises(errors.InsufficientPrivilege):
        second_connection().execute(change)
    with pytest.raises(errors.RestrictViolation):
        second_connection(owner=True).execute(change)


def test_the_commands_say_what_holds_and_anchors_show_a_cut_off_end(
    acme: Tenant, superuser: "psycopg.Connection[Any]", tmp_path: Path
) -> None:
    anchor = tmp_path / "heads.jsonl"
    said = io.StringIO()
    for _ in range(2):
        write(acme, 1)
        call_command("seal", anchor=anchor, stdout=said)
    call_command("verify_ledger", anchor=anchor, stdout=said)
    assert "2 seals over 4 events, 2 anchors: 0 broken" in said.getvalue()
    superuser.execute("SET session_replication_role = replica")
    superuser.execute(
        "DELETE FROM ledger_event WHERE batch_id > (SELECT min(batch_id) FROM ledger_event)"
    )
    superuser.execute("DELETE FROM ledger_seal WHERE sequence = 2")
    assert reasons() == []  # the chain alone cannot know
    with pytest.raises(SystemExit):
        call_command("verify_ledger", anchor=anchor, stdout=said)
    assert "acme seal 2: was anchored and is not there" in said.getvalue()
