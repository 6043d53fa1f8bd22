"""Folds stored batches into counters and rollups, each event exactly once.

Invariant, in every committed state: counters = aggregate of the ledger rows whose batch is
not pending (and whose event is not late). Ingest keeps it by adding rows and their pending mark
together; a fold keeps it by removing the mark and adding the contribution together; a crash
rolls both back. So ``synchronous_commit=off`` is safe here: a lost fold leaves its mark.

No id or timestamp cursor is used: both lose rows that commit late. Membership in
`PendingBatch` decides, never order.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from counters import aggregate_sql, locks
from stripemeter.lib import metrics
from stripemeter.lib.faults import point
from stripemeter.lib.logs import get_logger

log = get_logger(__name__)

#: A fold takes at most this much, so that its transaction stays short.
FOLD_BATCHES_MAX = 256
FOLD_EVENTS_MAX = 100_000
POLL_SECONDS = 0.15

_CLAIM = """
SELECT batch_id, tenant_id, event_count, ts_min FROM ledger_pendingbatch
WHERE tenant_id %% %s = %s ORDER BY batch_id LIMIT %s FOR UPDATE SKIP LOCKED
"""
_SPECIAL_METRICS = """
SELECT aggregation, array_agg(id) FROM ledger_metric
WHERE tenant_id = ANY(%s) AND aggregation IN ('last', 'unique') GROUP BY 1
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """A pending batch taken by a fold."""

    batch_id: int
    tenant_id: int
    event_count: int
    ts_min: datetime


@transaction.atomic
def fold_once(*, now: datetime, shard: int = 0) -> int:
    """Fold what is pending, up to the limits; the number of batches folded.

    Zero when nothing is pending or another folder holds the shard.
    """
    if not locks.try_fold_lock(shard):
        return 0
    claims = _claim(shard)
    if not claims:
        return 0
    point("fold.claimed")
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit = off")
        # The queue is empty whenever statistics are taken, so the planner believes it is.
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(
            "DELETE FROM ledger_pendingbatch WHERE batch_id = ANY(%s)",
            [[claim.batch_id for claim in claims]],
        )
    _fold_claims(claims)
    point("fold.before_commit")
    metrics.batches_folded.inc(len(claims))
    return len(claims)


def _claim(shard: int) -> list[Claim]:
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, [locks.FOLD_SHARDS, shard, FOLD_BATCHES_MAX])
        found = [Claim(*row) for row in cursor.fetchall()]
    taken: list[Claim] = []
    events = 0
    for claim in found:
        if taken and events + claim.event_count > FOLD_EVENTS_MAX:
            break
        taken.append(claim)
        events += claim.event_count
    return taken


def special_metrics(tenant_ids: list[int]) -> dict[str, list[int]]:
    """Ids of the metrics that need more than totals: ``last_metrics`` and ``unique_metrics``."""
    with connection.cursor() as cursor:
        cursor.execute(_SPECIAL_METRICS, [tenant_ids])
        found = dict(cursor.fetchall())
    return {
        "last_metrics": found.get("last", []),
        "unique_metrics": found.get("unique", []),
    }


def _fold_claims(claims: list[Claim]) -> None:
    parameters: dict[str, Any] = {"batches": [claim.batch_id for claim in claims]}
    special = special_metrics(sorted({claim.tenant_id for claim in claims}))
    add_events(aggregate_sql.CLAIMED_IN_MONTHS, parameters, special)


def add_events(source: str, parameters: dict[str, Any], special: dict[str, list[int]]) -> None:
    """Add the events that ``source`` selects to their counters and rollups."""
    everything = {**parameters, **special}
    with connection.cursor() as cursor:
        cursor.execute(aggregate_sql.TOTALS.format(source=source), everything)
        if special["last_metrics"]:
            cursor.execute(aggregate_sql.LAST.format(source=source), everything)
        if special["unique_metrics"]:
            cursor.execute(aggregate_sql.UNIQUE.format(source=source), everything)


def fold_for(
    seconds: float, *, clock: Callable[[], datetime], shard: int = 0, poll: float = POLL_SECONDS
) -> int:
    """Keep folding for ``seconds``, polling the outbox; the number of batches folded.

    A fold that found much goes on at once; otherwise it waits a poll, so that small posts are
    grouped: folding every 20 ms would group nothing (docs of the measurements, section 2).
    """
    folded = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        batches = fold_once(now=clock(), shard=shard)
        folded += batches
        if batches < FOLD_BATCHES_MAX:
            time.sleep(min(poll, max(deadline - time.monotonic(), 0)))
    return folded


def fold_everything(*, now: datetime) -> int:
    """Fold until nothing is pending; the number of batches folded. For commands and tests."""
    folded = 0
    for shard in range(locks.FOLD_SHARDS):
        while batches := fold_once(now=now, shard=shard):
            folded += batches
    return folded
