"""Advisory locks of the counters, and the order in which they are taken.

Order: fold lock, then rows by primary key. All are transaction locks: a crash frees them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

_FOLD_CLASS = 0x464F4C44
#: Folding is split by tenant over this many shards; each shard has one folder at a time.
FOLD_SHARDS = 1


def shard_of(tenant_id: int) -> int:
    """The fold shard of a tenant."""
    return tenant_id % FOLD_SHARDS


def try_fold_lock(shard: int) -> bool:
    """Take the shard's fold lock for this transaction, or say that another holds it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [_FOLD_CLASS, shard])
        row = cursor.fetchone()
    return bool(row and row[0])


def fold_lock(tenant_id: int) -> None:
    """Keep every fold of the tenant out until this transaction ends.

    Whoever overwrites a counter from the ledger holds it: an overwrite beside a fold would
    lose what the fold adds between snapshot and update.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_FOLD_CLASS, shard_of(tenant_id)])


_REPLAY_CLASS = 0x5245504C


@contextmanager
def replay_lock(tenant_id: int) -> Iterator[bool]:
    """Hold the tenant's replay lock for several transactions; yields whether it is ours.

    A session lock: a replay commits many times. It goes with the connection if we die.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [_REPLAY_CLASS, tenant_id])
        row = cursor.fetchone()
    ours = bool(row and row[0])
    try:
        yield ours
    finally:
        if ours:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [_REPLAY_CLASS, tenant_id])


def replay_create_lock(tenant_id: int) -> None:
    """Let nobody else create a replay of the tenant until this transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_REPLAY_CLASS + 1, tenant_id])
