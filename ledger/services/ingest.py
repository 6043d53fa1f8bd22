"""Stores a batch of events exactly once, in one statement.

The statement writes the events and their outbox row (`PendingBatch`) together, so they
commit or vanish together. The primary key (tenant, key) is the only judge of duplicates; rows
go in sorted by key, so overlapping batches cannot deadlock. An answer is given only after
COMMIT with ``synchronous_commit=on``; after an error at COMMIT the outcome is unknown and
the caller is told to retry with the same keys, which settles it.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from random import uniform
from typing import Any, LiteralString
from uuid import UUID

import msgspec
import psycopg
from django.db import connection, transaction
from django.db.utils import OperationalError

from ledger import identity, packing
from ledger.models import EventConflict
from ledger.services.registry import metric_ids
from ledger.wire import EPOCH, Columns, microseconds
from stripemeter.lib import metrics, strictjson
from stripemeter.lib.errors import Unavailable
from stripemeter.lib.faults import point
from stripemeter.lib.livesql import live_connection
from stripemeter.lib.logs import get_logger

log = get_logger(__name__)

ATTEMPTS_MAX = 4
YEAR_2000_US = 0

_STORE: LiteralString = """
WITH batch AS (
    INSERT INTO ledger_pendingbatch
        (batch_id, tenant_id, event_count, ts_min, ts_max, recorded_at)
    VALUES (nextval('ledger_batch_seq'), %b, %b, %b, %b, %b)
    RETURNING batch_id
)
INSERT INTO ledger_event
    (tenant_id, batch_id, ts, recorded_at, key, fingerprint, metric_id,
     customer_ref, resource_id, quantity, source, key_text, meta)
SELECT %b, (SELECT batch_id FROM batch), u.ts, %b, u.key, u.fingerprint, u.metric_id,
       u.customer_ref, u.resource_id, u.quantity, u.source, u.key_text, u.meta
FROM unnest(%b::timestamptz[], %b::uuid[], %b::uuid[], %b::int4[], %b::text[], %b::text[],
            %b::numeric[], %b::text[], %b::text[], %b::jsonb[])
  AS u(ts, key, fingerprint, metric_id, customer_ref, resource_id, quantity, source, key_text, meta)
ON CONFLICT DO NOTHING
"""

# currval is volatile: without the sub-select it would be evaluated row by row.
_STORED: LiteralString = """
SELECT key, fingerprint, batch_id = (SELECT currval('ledger_batch_seq'))
FROM ledger_event WHERE tenant_id = %b AND key = ANY(%b::uuid[])
"""
#: Keys of events whose month has been exported and dropped (`partitions`).
_STORED_ONCE: LiteralString = _STORED.replace("FROM ledger_event ", "FROM ledger_eventkey ")


class Result(msgspec.Struct, omit_defaults=True, gc=False):
    """The answer for one event, as it goes on the wire."""

    idempotencyKey: str  # noqa: N815  wire name
    status: str
    error: str | None = None


@dataclass(slots=True)
class Outcome:
    """The answer for a batch; ``results`` are in input order."""

    accepted: int
    duplicates: int
    conflicts: int
    results: list[Result]
    errors: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Columns with their identities, without the events that business rules refuse."""

    columns: Columns
    keys: list[bytes]
    fingerprints: list[bytes]
    refused: dict[int, str]


def ingest(
    *,
    tenant_id: int,
    columns: Columns,
    now: datetime,
    future_tolerance: timedelta,
    meta_bytes_max: int,
) -> Outcome:
    """Store ``columns`` for the tenant and say per event what became of it.

    ``accepted``: newly stored. ``duplicate``: the same event is stored already.
    ``conflict``: its key is taken by an event that says something else; kept for the operator,
    not counted. ``error``: refused by a rule (too far ahead, before 2000, meta too large).
    Raises `Unavailable` when the outcome is unknown: retry with the same keys.
    """
    started = time.perf_counter()
    prints = identity.fingerprints(columns)
    prepared = _Prepared(
        columns=columns,
        keys=identity.keys(columns, prints, tenant_id=tenant_id),
        fingerprints=prints,
        refused=_refused(columns, now, future_tolerance, meta_bytes_max),
    )
    chosen, repeats = _first_of_each_key(prepared)
    statuses: dict[int, str] = {}
    if chosen:
        point("ingest.before_store")
        statuses = _store_with_retries(tenant_id, prepared, chosen, now)
        point("ingest.stored")
    outcome = _outcome(prepared, statuses, repeats)
    if outcome.conflicts:
        _keep_conflicts(tenant_id, prepared, outcome, now)
    _count(outcome, prepared, started)
    return outcome


def _refused(
    columns: Columns, now: datetime, future_tolerance: timedelta, meta_bytes_max: int
) -> dict[int, str]:
    refused: dict[int, str] = {}
    latest = microseconds(now + future_tolerance)
    if max(columns.ts_us) > latest or min(columns.ts_us) < YEAR_2000_US:
        for index, ts_us in enumerate(columns.ts_us):
            if ts_us > latest:
                refused[index] = "Event timestamp too far in the future"
            elif ts_us < YEAR_2000_US:
                refused[index] = "Event timestamp before 2000-01-01"
    for index, meta in enumerate(columns.metas):
        if meta and len(meta) > meta_bytes_max:
            refused[index] = f"Meta too large ({len(meta)} bytes > {meta_bytes_max})"
    return refused


def _first_of_each_key(prepared: _Prepared) -> tuple[list[int], dict[int, int]]:
    """Indexes to store, sorted by key, and for each repeated key the index it repeats."""
    if not prepared.refused and len(set(prepared.keys)) == len(prepared.keys):
        return sorted(range(len(prepared.keys)), key=prepared.keys.__getitem__), {}
    first: dict[bytes, int] = {}
    repeats: dict[int, int] = {}
    for index, key in enumerate(prepared.keys):
        if index in prepared.refused:
            continue
        earlier = first.setdefault(key, index)
        if earlier != index:
            repeats[index] = earlier
    return [first[key] for key in sorted(first)], repeats


def _store_with_retries(
    tenant_id: int, prepared: _Prepared, chosen: list[int], now: datetime
) -> dict[int, str]:
    parameters = _parameters(tenant_id, prepared, chosen, now)
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            return _store(tenant_id, prepared, chosen, parameters)
        except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure) as error:
            if attempt == ATTEMPTS_MAX:
                raise Unavailable("The ledger is busy; retry.", code="ledger_busy") from error
            time.sleep(uniform(0.005, 0.05) * attempt)  # noqa: S311  jitter, not a secret
        except (psycopg.OperationalError, psycopg.InterfaceError, OperationalError) as error:
            connection.close()
            log.warning("ingest.outcome_unknown", error=str(error).splitlines()[0])
            raise Unavailable(
                "The outcome is unknown. Retry with the same idempotency keys.",
                code="outcome_unknown",
            ) from error
    raise AssertionError("unreachable")


def _parameters(tenant_id: int, prepared: _Prepared, chosen: list[int], now: datetime) -> list[Any]:
    columns = prepared.columns
    ids = metric_ids(tenant_id, set(columns.metrics))
    pick = _picker(chosen)
    ts_us = pick(columns.ts_us)
    ts_min, ts_max = min(ts_us), max(ts_us)
    return [
        tenant_id,
        len(chosen),
        EPOCH + timedelta(microseconds=ts_min),
        EPOCH + timedelta(microseconds=ts_max),
        now,
        tenant_id,
        now,
        packing.timestamps(ts_us),
        packing.uuids(pick(prepared.keys)),
        packing.uuids(pick(prepared.fingerprints)),
        packing.int4s([ids[metric] for metric in pick(columns.metrics)]),
        packing.texts(pick(columns.customers)),
        packing.texts(pick(columns.resources)),
        packing.numerics(pick(columns.quantities)),
        packing.texts(pick(columns.sources)),
        packing.texts(pick(columns.keys)),
        packing.jsonbs(pick(columns.metas)),
    ]


def _picker(chosen: list[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Takes the ``chosen`` rows of a column, in their order."""
    if len(chosen) == 1:
        (only,) = chosen
        return lambda column: (column[only],)
    return itemgetter(*chosen)


def _store(
    tenant_id: int, prepared: _Prepared, chosen: list[int], parameters: list[Any]
) -> dict[int, str]:
    with psycopg.Cursor(live_connection()) as cursor:
        cursor.execute(_STORE, parameters)
        if cursor.rowcount == len(chosen):
            return dict.fromkeys(chosen, "accepted")
        cursor.execute(_STORED, [tenant_id, parameters[8]])
        stored = {key.bytes: (print_.bytes, ours) for key, print_, ours in cursor}
        if len(stored) < len(chosen):
            cursor.execute(_STORED_ONCE, [tenant_id, parameters[8]])
            stored |= {key.bytes: (print_.bytes, ours) for key, print_, ours in cursor}
    statuses = {}
    for index in chosen:
        fingerprint, ours = stored[prepared.keys[index]]
        if ours:
            statuses[index] = "accepted"
        elif fingerprint == prepared.fingerprints[index]:
            statuses[index] = "duplicate"
        else:
            statuses[index] = "conflict"
    return statuses


def _all_accepted(prepared: _Prepared) -> Outcome:
    """The common answer, without looking at each event again."""
    shown = [
        f"evt_{key.hex()}" if given is None else given
        for given, key in zip(prepared.columns.keys, prepared.keys, strict=True)
    ]
    results = [Result(key, "accepted") for key in shown]
    return Outcome(accepted=len(results), duplicates=0, conflicts=0, results=results, errors=[])


def _shown_key(prepared: _Prepared, index: int) -> str:
    given = prepared.columns.keys[index]
    return f"evt_{prepared.keys[index].hex()}" if given is None else given


_CONFLICT = "This idempotency key already belongs to an event with other content"


def _outcome(prepared: _Prepared, statuses: dict[int, str], repeats: dict[int, int]) -> Outcome:
    if len(statuses) == len(prepared.columns) and set(statuses.values()) == {"accepted"}:
        return _all_accepted(prepared)
    results: list[Result] = []
    errors: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    for index in range(len(prepared.columns)):
        error = prepared.refused.get(index)
        if error is not None:
            status = "error"
            errors.append({"index": index, "error": error})
        elif index in repeats:
            same = prepared.fingerprints[index] == prepared.fingerprints[repeats[index]]
            # A repeat of an event that itself conflicts is a conflict too.
            status = "duplicate" if same and statuses[repeats[index]] != "conflict" else "conflict"
        else:
            status = statuses[index]
        if status == "conflict":
            error = _CONFLICT
            errors.append({"index": index, "error": error})
        counts[status] += 1
        results.append(Result(_shown_key(prepared, index), status, error))
    return Outcome(
        accepted=counts["accepted"],
        duplicates=counts["duplicate"],
        conflicts=counts["conflict"],
        results=results,
        errors=errors,
    )


@transaction.atomic
def _keep_conflicts(tenant_id: int, prepared: _Prepared, outcome: Outcome, now: datetime) -> None:
    columns = prepared.columns
    rows = []
    for index, result in enumerate(outcome.results):
        if result.status != "conflict":
            continue
        meta = columns.metas[index]
        refused = {
            "metric": columns.metrics[index],
            "customerRef": columns.customers[index],
            "resourceId": columns.resources[index],
            "quantity": columns.quantities[index],
            "tsMicrosecondsSince2000": columns.ts_us[index],
            "source": columns.sources[index],
            "idempotencyKey": columns.keys[index],
            "meta": None if meta is None else strictjson.loads(meta.decode("utf-8")),
        }
        rows.append(
            EventConflict(
                tenant_id=tenant_id,
                key=UUID(bytes=prepared.keys[index]),
                recorded_at=now,
                refused=strictjson.loads(strictjson.dumps(refused, decimals_as_text=True)),
            )
        )
    EventConflict.objects.bulk_create(rows, batch_size=500)
    log.warning("event.conflicted", tenant_id=tenant_id, conflicts=len(rows))


def _count(outcome: Outcome, prepared: _Prepared, started: float) -> None:
    by_status = {
        "accepted": outcome.accepted,
        "duplicate": outcome.duplicates,
        "conflict": outcome.conflicts,
        "error": len(outcome.errors) - outcome.conflicts,
    }
    for status, count in by_status.items():
        if count:
            metrics.ingest_results.labels(status).inc(count)
    if outcome.accepted == len(outcome.results):
        by_metric = Counter(prepared.columns.metrics)
    else:
        by_metric = Counter(
            metric
            for metric, result in zip(prepared.columns.metrics, outcome.results, strict=True)
            if result.status == "accepted"
        )
    for metric, count in by_metric.items():
        metrics.events_ingested.labels(metrics.bounded("meter", metric)).inc(count)
    metrics.ingest_latency.observe((time.perf_counter() - started) * 1000)
