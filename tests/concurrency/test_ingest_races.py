"""Ingest on several connections at once: one judge of duplicates, no deadlock, one count."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from random import Random
from threading import Barrier
from typing import Any

from django.db import connection

from ledger.models import Event
from ledger.services.ingest import Outcome
from stripemeter.tenancy.models import Tenant
from tests.builders.ledger import NOW, fold, make_event, only_sum, store
from tests.builders.tenancy import make_tenant


def _together(tenant: Tenant, batches: list[list[dict[str, Any]]]) -> list[Outcome]:
    barrier = Barrier(len(batches))

    def send(events: list[dict[str, Any]]) -> Outcome:
        try:
            connection.ensure_connection()
            barrier.wait(timeout=240)
            return store(tenant, *events)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(batches)) as pool:
        return list(pool.map(send, batches))


def test_fifty_identical_posts_store_one_event(transactional_db: None) -> None:
    tenant = make_tenant()
    outcomes = _together(tenant, [[make_event(5, idempotencyKey="k")]] * 50)
    assert sum(outcome.accepted for outcome in outcomes) == 1
    assert sum(outcome.duplicates for outcome in outcomes) == 49
    fold()
    assert only_sum(tenant) == 5


def test_overlapping_batches_in_opposite_order_neither_deadlock_nor_double(
    transactional_db: None,
) -> None:
    tenant = make_tenant()
    random = Random(20261122)
    accepted = 0
    for round_number in range(40):
        events = [
            make_event(1, idempotencyKey=f"{round_number}-{i}", ts=NOW + timedelta(seconds=i))
            for i in range(60)
        ]
        shuffled = events[:]
        random.shuffle(shuffled)
        outcomes = _together(tenant, [events, events[::-1], shuffled])
        assert all(not outcome.errors for outcome in outcomes)
        accepted += sum(outcome.accepted for outcome in outcomes)
    assert accepted == Event.objects.count() == 40 * 60
    fold()
    assert only_sum(tenant) == 2_400


def test_one_of_two_conflicting_posts_wins_and_the_other_is_told(transactional_db: None) -> None:
    tenant = make_tenant()
    batches = [[make_event(quantity, idempotencyKey="k")] for quantity in (1, 2)]
    outcomes = _together(tenant, batches)
    assert sorted((o.accepted, o.conflicts) for o in outcomes) == [(0, 1), (1, 0)]
    fold()
    assert only_sum(tenant) in {1, 2}
