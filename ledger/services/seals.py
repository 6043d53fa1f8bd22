"""Seals stored events: per tenant a chain of digests over ranges of batches.

A batch id is drawn before its transaction commits, so ids commit out of order. A range may be
sealed only when no transaction can still add an event to it: see `horizon`. What lies above
the horizon waits for the next run; nothing is skipped and nothing is sealed twice.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db import connection, transaction
from django.db.models import Max

from ledger.models import Event, Seal
from stripemeter.lib import strictjson
from stripemeter.lib.faults import point
from stripemeter.lib.instants import rfc3339
from stripemeter.lib.logs import get_logger
from stripemeter.tenancy.models import Tenant

log = get_logger(__name__)

GENESIS = bytes(32)
#: Events of one step: its digests are made in one statement and one short transaction.
STEP_EVENTS = 200_000
UNSEALED_COUNT_MAX = 100_000
#: How long a run waits for writers that were under way when it began.
PATIENCE_SECONDS = 5.0
_POLL_SECONDS = 0.02
_LOCK_CLASS = 0x5345414C

# Every column, in an order that never changes. jsonb writes names and numbers one way only;
# instants are whole microseconds, so that no session's time zone has a say.
_EVENT_DIGEST = """
sha256(convert_to(jsonb_build_array(
    e.tenant_id, e.batch_id, (extract(epoch FROM e.ts) * 1000000)::bigint,
    (extract(epoch FROM e.recorded_at) * 1000000)::bigint, e.key, e.fingerprint, e.metric_id,
    e.customer_ref, e.resource_id, e.quantity::text, e.source, e.key_text, e.meta
)::text, 'UTF8'))
"""
_DIGESTS = f"""
SELECT e.tenant_id, count(*), sha256(string_agg({_EVENT_DIGEST}, ''::bytea ORDER BY e.key))
FROM ledger_event e WHERE e.batch_id > %s AND e.batch_id <= %s GROUP BY 1 ORDER BY 1
"""
_STEP_END = """
SELECT max(batch_id) FROM (
    SELECT batch_id FROM ledger_event WHERE batch_id > %s AND batch_id <= %s
    ORDER BY batch_id LIMIT %s
) step
"""
_DRAWN = "SELECT coalesce(pg_sequence_last_value('ledger_batch_seq'), 0)"
_WRITERS = """
SELECT virtualtransaction FROM pg_locks
WHERE locktype = 'relation' AND relation = 'ledger_event'::regclass
  AND mode = 'RowExclusiveLock' AND pid IS DISTINCT FROM pg_backend_pid()
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_AGAIN = f"""
SELECT s.sequence, count(e.key),
       sha256(coalesce(string_agg({_EVENT_DIGEST}, ''::bytea ORDER BY e.key), ''::bytea))
FROM ledger_seal s
LEFT JOIN ledger_event e ON e.tenant_id = s.tenant_id
     AND e.batch_id > s.after_batch AND e.batch_id <= s.last_batch
WHERE s.tenant_id = %s AND s.sequence = %s GROUP BY 1
"""


def horizon(*, patience_s: float = PATIENCE_SECONDS) -> int | None:
    """The highest batch id below which everything is decided; None if a writer would not end.

    A writer locks the table before it draws its id and lets go when it is decided. So all ids
    drawn by now belong to transactions that are over, or that hold the lock now: when those
    have let go, nothing can be added at or below the highest id drawn.
    """
    with connection.cursor() as cursor:
        cursor.execute(_DRAWN)
        (drawn,) = cursor.fetchone()
        cursor.execute(_WRITERS)
        awaited = {row[0] for row in cursor.fetchall()}
        end = time.monotonic() + patience_s
        while awaited:
            if time.monotonic() >= end:
                log.warning("seal.waited_in_vain", writers=len(awaited))
                return None
            time.sleep(_POLL_SECONDS)
            cursor.execute(_WRITERS)
            awaited &= {row[0] for row in cursor.fetchall()}
    return int(drawn)


def seal_ledger(
    *, now: datetime, patience_s: float = PATIENCE_SECONDS, step_events: int = STEP_EVENTS
) -> int:
    """Seal every event that is decided, for all tenants; the number of seals made."""
    limit = horizon(patience_s=patience_s)
    if limit is None:
        return 0
    made = 0
    while (step := _seal_step(limit, step_events, now)) is not None:
        made += step
    return made


@transaction.atomic
def _seal_step(limit: int, step_events: int, now: datetime) -> int | None:
    """Seal the next range up to ``limit``; the seals made, or None if nothing is left."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, 0)", [_LOCK_CLASS])
        if not cursor.fetchone()[0]:
            return None  # another process seals
        after = Seal.objects.aggregate(last=Max("last_batch"))["last"] or 0
        cursor.execute(_STEP_END, [after, limit, step_events])
        (last,) = cursor.fetchone()
        if last is None:
            return None
        cursor.execute(_DIGESTS, [after, last])
        found = cursor.fetchall()
    for tenant_id, count, digest in found:
        _append(tenant_id, last, count, bytes(digest), now)
    point("seal.before_commit")
    return len(found)


def _append(tenant_id: int, last: int, count: int, digest: bytes, now: datetime) -> None:
    newest = newest_seal(tenant_id)
    seal = Seal(
        tenant_id=tenant_id,
        sequence=newest.sequence + 1 if newest else 1,
        after_batch=newest.last_batch if newest else 0,
        last_batch=last,
        event_count=count,
        digest=digest,
        previous_hash=bytes(newest.hash) if newest else GENESIS,
        sealed_at=now,
    )
    seal.hash = seal_hash(seal)
    seal.save(force_insert=True)


def seal_hash(seal: Seal) -> bytes:
    """SHA-256 over the previous hash and everything the seal says of its range."""
    content = [
        seal.tenant_id,
        seal.sequence,
        seal.after_batch,
        seal.last_batch,
        seal.event_count,
        bytes(seal.digest).hex(),
    ]
    return hashlib.sha256(bytes(seal.previous_hash) + strictjson.canonical(content)).digest()


def newest_seal(tenant_id: int) -> Seal | None:
    """The tenant's last seal: its head."""
    return Seal.objects.filter(tenant_id=tenant_id).order_by("-sequence").first()


def unsealed_events(tenant_id: int) -> int:
    """How many of the tenant's events no seal covers yet, counted up to 100,000."""
    newest = newest_seal(tenant_id)
    found = Event.objects.filter(
        tenant_id=tenant_id, batch_id__gt=newest.last_batch if newest else 0
    )
    return found[:UNSEALED_COUNT_MAX].count()


def shown_head(tenant_id: int) -> dict[str, Any] | None:
    """The tenant's newest seal as certificates name it; None before the first."""
    newest = newest_seal(tenant_id)
    if newest is None:
        return None
    return {
        "sequence": newest.sequence,
        "lastBatch": newest.last_batch,
        "hash": bytes(newest.hash).hex(),
    }


@dataclass(frozen=True, slots=True)
class Break:
    """A seal that does not hold, and why."""

    tenant: str
    sequence: int
    reason: str


@dataclass(frozen=True, slots=True)
class Head:
    """A tenant's newest seal, as kept outside the database."""

    tenant: str
    sequence: int
    hash: str


@dataclass(slots=True)
class Verified:
    """What a verification looked at and found."""

    seals: int = 0
    events: int = 0
    breaks: list[Break] | None = None


def heads() -> list[Head]:
    """The newest seal of every tenant that has one."""
    found = []
    for tenant in Tenant.objects.order_by("pk"):
        newest = newest_seal(tenant.pk)
        if newest is not None:
            found.append(Head(tenant.key, newest.sequence, bytes(newest.hash).hex()))
    return found


def anchor(file: str | Path, *, now: datetime) -> list[Head]:
    """Append every tenant's head that ``file`` does not end with, as JSON lines; the heads.

    Kept outside the database, it shows that the newest seals, or a whole restored database,
    are older than what once was.
    """
    path = Path(file)
    noted = {head.tenant: head for head in (read_anchors(path) if path.exists() else [])}
    found = heads()
    lines = [
        strictjson.dumps(
            {
                "tenant": head.tenant,
                "sequence": head.sequence,
                "hash": head.hash,
                "anchoredAt": rfc3339(now),
            }
        )
        for head in found
        if noted.get(head.tenant) != head
    ]
    if lines:
        with path.open("ab") as stream:
            stream.write(b"".join(line + b"\n" for line in lines))
            stream.flush()
            os.fsync(stream.fileno())
    return found


def read_anchors(path: Path) -> list[Head]:
    """The heads in a file of `anchor`, oldest first. Raises `ValueError` for any other file."""
    try:
        lines = [strictjson.loads(line) for line in path.read_bytes().splitlines() if line]
        return [Head(line["tenant"], int(line["sequence"]), line["hash"]) for line in lines]
    except (OSError, strictjson.InvalidJSON, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no file of anchors: {error}") from error


def verify_ledger(*, tenant_key: str | None = None, anchors: list[Head] | None = None) -> Verified:
    """Recompute every seal of every tenant (or of one) from the events as they stand.

    A chain alone does not show that its last seals were cut off; ``anchors``, heads kept
    elsewhere, do. Events above the newest seal are not covered yet.
    """
    tenants = Tenant.objects.order_by("pk")
    if tenant_key is not None:
        tenants = tenants.filter(key=tenant_key)
    verified = Verified(breaks=[])
    for tenant in tenants:
        verified.breaks = [*(verified.breaks or []), *_breaks(tenant, verified)]
    if anchors:
        verified.breaks = [*(verified.breaks or []), *_cut_off(anchors)]
    return verified


def _breaks(tenant: Tenant, verified: Verified) -> Iterator[Break]:
    previous, after, expected = GENESIS, 0, 1
    for seal in Seal.objects.filter(tenant_id=tenant.pk).order_by("sequence").iterator():
        verified.seals += 1
        verified.events += seal.event_count
        reason = _wrong(seal, previous, after, expected)
        if reason:
            yield Break(tenant.key, seal.sequence, reason)
        previous, after, expected = bytes(seal.hash), seal.last_batch, seal.sequence + 1


def _wrong(seal: Seal, previous: bytes, after: int, expected: int) -> str | None:
    if seal.sequence != expected:
        return f"seal {expected} is missing"
    if bytes(seal.previous_hash) != previous or seal.after_batch != after:
        return "does not follow the seal before it"
    if bytes(seal.hash) != seal_hash(seal):
        return "the seal itself was altered"
    with connection.cursor() as cursor:
        cursor.execute(_AGAIN, [seal.tenant_id, seal.sequence])
        row: Any = cursor.fetchone()
    _, count, digest = row
    if count != seal.event_count:
        return f"holds {count} events, {seal.event_count} were sealed"
    if bytes(digest) != bytes(seal.digest):
        return "an event was altered"
    return None


def _cut_off(anchors: list[Head]) -> Iterator[Break]:
    for anchor in anchors:
        found = Seal.objects.filter(
            tenant_id__in=Tenant.objects.filter(key=anchor.tenant).values("pk"),
            sequence=anchor.sequence,
        ).first()
        if found is None:
            yield Break(anchor.tenant, anchor.sequence, "was anchored and is not there")
        elif bytes(found.hash).hex() != anchor.hash:
            yield Break(anchor.tenant, anchor.sequence, "is not the seal that was anchored")
