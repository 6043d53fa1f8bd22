"""Folds beside open ingest transactions and beside each other."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event as Signal
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction

from counters import locks
from counters.services.fold import fold_once
from counters.services.recompute import Scope, differences, recompute
from ledger.models import Metric, PendingBatch
from stripemeter.lib.faults import InjectedFault
from tests.builders.ledger import NOW, fold, make_event, only_sum, store
from tests.builders.tenancy import make_tenant

_BATCH = """
WITH batch AS (
    INSERT INTO ledger_pendingbatch VALUES (nextval('ledger_batch_seq'), %(tenant)s, 1,
        %(ts)s, %(ts)s, %(ts)s) RETURNING batch_id)
INSERT INTO ledger_event (tenant_id, batch_id, ts, recorded_at, key, fingerprint, metric_id,
    customer_ref, quantity, source)
SELECT %(tenant)s, batch_id, %(ts)s, %(ts)s, gen_random_uuid(), gen_random_uuid(), %(metric)s,
    'cus_1', 10, 'http' FROM batch
"""


def test_a_batch_that_commits_after_later_ones_were_folded_is_folded_too(
    second_connection: Callable[..., "psycopg.Connection[Any]"],
) -> None:
    tenant = make_tenant()
    store(tenant, make_event(1))
    metric = Metric.objects.get().pk
    slow = second_connection()
    slow.execute(_BATCH, {"tenant": tenant.pk, "metric": metric, "ts": NOW})
    # Its id is drawn, its commit is not there yet; a younger batch overtakes it.
    store(tenant, make_event(2))
    fold()
    assert only_sum(tenant) == 3
    slow.commit()
    fold()
    assert only_sum(tenant) == 13
    assert not PendingBatch.objects.exists()


def test_a_second_folder_of_the_shard_stands_back(
    second_connection: Callable[..., "psycopg.Connection[Any]"],
) -> None:
    tenant = make_tenant()
    store(tenant, make_event(1))
    other = second_connection()
    other.execute("SELECT pg_advisory_xact_lock(%s, %s)", [0x464F4C44, locks.shard_of(tenant.pk)])
    assert fold_once(now=NOW) == 0
    other.rollback()
    assert fold_once(now=NOW) == 1


def test_a_fold_that_fails_leaves_everything_pending(
    transactional_db: None, monkeypatch: Any
) -> None:
    tenant = make_tenant()
    store(tenant, make_event(1))
    monkeypatch.setenv("STRIPEMETER_FAULT_POINTS", "fold.before_commit=raise")
    with pytest.raises(InjectedFault, match="before_commit"):
        fold()
    assert PendingBatch.objects.count() == 1
    monkeypatch.delenv("STRIPEMETER_FAULT_POINTS")
    fold()
    assert only_sum(tenant) == 1


def test_folds_recomputes_and_ingest_at_once_lose_nothing(transactional_db: None) -> None:
    tenant = make_tenant()
    store(tenant, make_event(1, idempotencyKey="first"))
    scope = Scope(
        tenant.pk,
        (Metric.objects.get().pk,),
        NOW - timedelta(days=100),
        NOW + timedelta(days=100),
    )
    done = Signal()

    def loop(work: Callable[[], Any]) -> None:
        try:
            while not done.is_set():
                work()
        finally:
            connection.close()

    def feed() -> None:
        try:
            for i in range(150):
                store(tenant, make_event(1, idempotencyKey=f"a{i}"), make_event(2, resourceId="r"))
        finally:
            done.set()
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        futures = [
            pool.submit(loop, lambda: fold_once(now=NOW)),
            pool.submit(loop, lambda: fold_once(now=NOW)),
            pool.submit(loop, lambda: recompute(scope)),
            pool.submit(feed),
        ]
        for future in futures:
            future.result(timeout=120)
    fold()
    assert only_sum(tenant) == 1 + 150 + 2
    assert differences(scope) == []


def test_a_fold_waits_for_a_recompute_that_holds_the_tenant(transactional_db: None) -> None:
    tenant = make_tenant()
    store(tenant, make_event(1))
    with transaction.atomic():
        locks.fold_lock(tenant.pk)

        def try_fold() -> int:
            try:
                return fold_once(now=NOW)
            finally:
                connection.close()

        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(try_fold).result(timeout=240) == 0
