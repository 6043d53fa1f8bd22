"""The audit trail: one row per write, in the same transaction, chained by hash."""

import hashlib
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet

from stripemeter.lib import addresses, requestid, strictjson
from stripemeter.lib.instants import rfc3339
from stripemeter.tenancy.models import AuditEntry

GENESIS = bytes(32)
#: Advisory lock class of the chains; the second key is the tenant.
_LOCK_CLASS = 0x41554449


def entry_hash(entry: AuditEntry) -> bytes:
    """SHA-256 over the previous hash and the canonical content of ``entry``."""
    content = {
        "tenant": entry.tenant_id,
        "sequence": entry.sequence,
        "recordedAt": rfc3339(entry.recorded_at),
        "actor": entry.actor,
        "action": entry.action,
        "objectType": entry.object_type,
        "objectId": entry.object_id,
        "before": entry.before,
        "after": entry.after,
        "requestId": entry.request_id,
        "address": entry.address,
    }
    return hashlib.sha256(bytes(entry.previous_hash) + strictjson.canonical(content)).digest()


def _chain(tenant_id: int | None) -> QuerySet[AuditEntry]:
    if tenant_id is None:
        return AuditEntry.objects.filter(tenant__isnull=True)
    return AuditEntry.objects.filter(tenant_id=tenant_id)


def record(
    *,
    tenant_id: int | None,
    actor: str,
    action: str,
    object_type: str,
    object_id: object,
    now: datetime,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    address: str = "",
) -> AuditEntry:
    """Add one row to the tenant's chain; must run inside the transaction of the write.

    ``action`` is ``noun.verb_past`` (``mapping.created``). Never put a secret in before or after.
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("audit.record must run in the transaction of the write it records")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_LOCK_CLASS, tenant_id or 0])
    last = _chain(tenant_id).order_by("-sequence").values_list("sequence", "hash").first()
    sequence, previous = last if last is not None else (0, GENESIS)
    entry = AuditEntry(
        tenant_id=tenant_id,
        sequence=sequence + 1,
        recorded_at=now,
        actor=actor,
        action=action,
        object_type=object_type,
        object_id=str(object_id),
        before=_plain(before),
        after=_plain(after),
        request_id=requestid.current(),
        address=address or addresses.current(),
        previous_hash=bytes(previous),
    )
    entry.hash = entry_hash(entry)
    entry.save(force_insert=True)
    return entry


def _plain(values: dict[str, Any] | None) -> Any:
    """``values`` as it will be read back from JSON: Decimals and instants become text."""
    if values is None:
        return None
    return strictjson.loads(strictjson.dumps(values, decimals_as_text=True))


def verify_chain(tenant_id: int | None) -> int | None:
    """The first sequence number at which the tenant's chain is broken, or None if it holds."""
    previous, expected = GENESIS, 1
    for entry in _chain(tenant_id).order_by("sequence").iterator():
        if (
            entry.sequence != expected
            or bytes(entry.previous_hash) != previous
            or bytes(entry.hash) != entry_hash(entry)
        ):
            return expected
        previous, expected = bytes(entry.hash), expected + 1
    return None
