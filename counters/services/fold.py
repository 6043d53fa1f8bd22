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
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from counters import aggregate_sql, hooks, locks
from counters.services import periods
from stripemeter.lib import metrics, tracing
from stripemeter.lib.faults import point
from stripemeter.lib.logs import get_logger

log = get_logger(__name__)

#: A fold takes at most this much, so that its transaction stays short.
FOLD_BATCHES_MAX = 256
FOLD_EVENTS_MAX = 100_000
#: From one fold's start to the next: still groups, and a counter is fresh in a quarter of a second.
POLL_SECONDS = 0.15

_CLAIM = """
SELECT batch_id, tenant_id, event_count, ts_min FROM ledger_pendingbatch
WHERE tenant_id %% %s = %s ORDER BY batch_id LIMIT %s FOR UPDATE SKIP LOCKED
"""
_SPECIAL_METRICS = """
SELECT aggregation, array_agg(id) FROM ledger_metric
WHERE tenant_id = ANY(%s) AND aggregation IN ('last', 'unique') GROUP BY 1
"""
_RULES = """
SELECT t.id, t.has_calendars,
       least(t.lateness_window_hours, (SELECT min(m.lateness_window_hours)
                                       FROM ledger_metric m WHERE m.tenant_id = t.id)),
       (SELECT max(upper(b.span)) FROM counters_billingperiod b
        WHERE b.tenant_id = t.id AND b.state IN ('frozen', 'sealed'))
FROM tenancy_tenant t WHERE t.id = ANY(%s)
"""
_TAKE_ALL = """
DELETE FROM ledger_pendingbatch WHERE tenant_id = %s
RETURNING batch_id, tenant_id, event_count, ts_min
"""
#: How far ahead of the clock an event may lie (ingest refuses later ones).
FUTURE_MAX = timedelta(hours=1)


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
    with tracing.span(
        "counters.fold", origins={claim.tenant_id for claim in claims}, batches=len(claims)
    ):
        _fold_claimed(claims, now)
    point("fold.before_commit")
    metrics.batches_folded.inc(len(claims))
    return len(claims)


def _fold_claimed(claims: list[Claim], now: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit = off")
        # The queue is empty whenever statistics are taken, so the planner believes it is.
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(
            "DELETE FROM ledger_pendingbatch WHERE batch_id = ANY(%s)",
            [[claim.batch_id for claim in claims]],
        )
    _fold_claims(claims, now)


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


@dataclass(frozen=True, slots=True)
class _TenantRules:
    """What a fold must know of a tenant before it may take the fast path."""

    has_calendars: bool
    #: The shortest lateness window of the tenant's metrics.
    window_hours: int
    #: End of the newest frozen period.
    frozen_until: datetime | None

    def asks_for_care(self, claim: Claim, now: datetime) -> bool:
        """Whether the batch may hold late events, or needs periods looked up.

        No watermark exceeds now + 1 h (ingest refuses later events), so an event younger than
        that less the window cannot be late.
        """
        return (
            self.has_calendars
            or claim.ts_min < now + FUTURE_MAX - timedelta(hours=self.window_hours)
            or (self.frozen_until is not None and claim.ts_min < self.frozen_until)
        )


def _rules_of(tenant_ids: list[int]) -> dict[int, _TenantRules]:
    with connection.cursor() as cursor:
        cursor.execute(_RULES, [tenant_ids])
        return {row[0]: _TenantRules(*row[1:]) for row in cursor.fetchall()}


def _fold_claims(claims: list[Claim], now: datetime) -> None:
    rules = _rules_of(sorted({claim.tenant_id for claim in claims}))
    plain: list[Claim] = []
    careful: dict[int, list[Claim]] = {}
    for claim in claims:
        if rules[claim.tenant_id].asks_for_care(claim, now):
            careful.setdefault(claim.tenant_id, []).append(claim)
        else:
            plain.append(claim)
    # The old ones first: what arrives together with younger events is not late because of them.
    for tenant_id, found in careful.items():
        batches = [claim.batch_id for claim in found]
        _fold_carefully(tenant_id, batches, rules[tenant_id].has_calendars, now)
    if plain:
        special = special_metrics(sorted({claim.tenant_id for claim in plain}))
        batches = [claim.batch_id for claim in plain]
        source = aggregate_sql.CLAIMED_IN_MONTHS
        add_events(source, {"batches": batches}, special, in_months=True)


def _fold_carefully(tenant_id: int, batches: list[int], has_calendars: bool, now: datetime) -> None:
    """Fold batches of one tenant whose events may be late or have periods of their own."""
    parameters: dict[str, Any] = {"batches": batches, "now": now}
    source = aggregate_sql.CLAIMED_IN_MONTHS
    if has_calendars:
        source = aggregate_sql.CLAIMED_IN_PERIODS
        parameters |= periods.of_batches(tenant_id, batches)
    with connection.cursor() as cursor:
        cursor.execute(aggregate_sql.SET_ASIDE.format(source=source), parameters)
    point("fold.set_aside")
    kept = aggregate_sql.NOT_LATE.format(source=source)
    add_events(kept, parameters, special_metrics([tenant_id]), in_months=not has_calendars)


def fold_pending_of(tenant_id: int, *, now: datetime) -> int:
    """Fold everything the tenant has pending; the caller holds its fold lock."""
    with connection.cursor() as cursor:
        cursor.execute(_TAKE_ALL, [tenant_id])
        claims = [Claim(*row) for row in cursor.fetchall()]
    if claims:
        _fold_claims(claims, now)
    return len(claims)


def add_events(
    source: str,
    parameters: dict[str, Any],
    special: dict[str, list[int]],
    *,
    in_months: bool = False,
    cleared: bool = False,
) -> None:
    """Add the events that ``source`` selects to their counters and rollups.

    ``in_months``: the periods of the source are UTC months, so its days say them. ``cleared``: the
    counters have no rollups, since the caller has just deleted them.
    """
    everything = {**parameters, **special}
    days = aggregate_sql.DAYS_IN_MONTHS if in_months else aggregate_sql.DAYS
    totals = aggregate_sql.TOTALS.format(
        days=days.format(source=source), merge="" if cleared else aggregate_sql.MERGE_DAYS
    )
    with connection.cursor() as cursor:
        cursor.execute(totals, everything)
        if special["last_metrics"]:
            cursor.execute(aggregate_sql.LAST.format(source=source), everything)
        if special["unique_metrics"]:
            cursor.execute(aggregate_sql.UNIQUE.format(source=source), everything)


def fold_for(
    seconds: float, *, clock: Callable[[], datetime], shard: int = 0, poll: float = POLL_SECONDS
) -> int:
    """Keep folding for ``seconds``, polling the outbox; the number of batches folded.

    A fold that found much goes on at once; otherwise folds start a poll apart, so that small
    posts are grouped: folding every 20 ms would group nothing.
    """
    folded = 0
    deadline = time.monotonic() + seconds
    while (began := time.monotonic()) < deadline:
        batches = fold_once(now=clock(), shard=shard)
        folded += batches
        if batches:
            hooks.folded()
        if batches < FOLD_BATCHES_MAX:
            time.sleep(max(min(began + poll, deadline) - time.monotonic(), 0))
    return folded


def fold_everything(*, now: datetime) -> int:
    """Fold until nothing is pending; the number of batches folded. For commands and tests."""
    folded = 0
    for shard in range(locks.FOLD_SHARDS):
        while batches := fold_once(now=now, shard=shard):
            folded += batches
    return folded
