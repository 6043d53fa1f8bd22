"""Metric names to metric ids, registering names that nobody has configured yet."""

import threading
from functools import partial

from django.db import connection, transaction

_REGISTER = """
INSERT INTO ledger_metric
    (tenant_id, name, aggregation, unique_field, unit, description, configured)
SELECT %s, name, 'sum', 'resourceId', 'unit', '', false FROM unnest(%s::text[]) AS u(name)
ON CONFLICT (tenant_id, name) DO NOTHING
"""
_LOOK_UP = "SELECT name, id FROM ledger_metric WHERE tenant_id = %s AND name = ANY(%s)"
CACHE_ENTRIES_MAX = 100_000

# Names and ids of metrics never change, so what is cached stays right: only what is committed
# is, since a rollback takes a registration back.
_ids: dict[tuple[int, str], int] = {}
_lock = threading.Lock()


def metric_ids(tenant_id: int, names: set[str]) -> dict[str, int]:
    """The id of each name, made on first sight (``configured=False``: shown as unmapped)."""
    found = {name: _ids.get((tenant_id, name), 0) for name in names}
    missing = [name for name, metric_id in found.items() if not metric_id]
    if missing:
        found.update(_load_or_register(tenant_id, missing))
    return found


def known_metric_id(tenant_id: int, name: str) -> int | None:
    """The id of the tenant's metric ``name``; None if there is none. Registers nothing."""
    found = _ids.get((tenant_id, name))
    if found is None:
        with connection.cursor() as cursor:
            cursor.execute(_LOOK_UP, [tenant_id, [name]])
            rows: list[tuple[str, int]] = cursor.fetchall()
        if not rows:
            return None
        found = rows[0][1]
        _remember_once_committed(tenant_id, {name: found})
    return found


def _load_or_register(tenant_id: int, names: list[str]) -> dict[str, int]:
    with connection.cursor() as cursor:
        cursor.execute(_LOOK_UP, [tenant_id, names])
        found: dict[str, int] = dict(cursor.fetchall())
        new = sorted(set(names) - found.keys())
        if new:
            cursor.execute(_REGISTER, [tenant_id, new])
            cursor.execute(_LOOK_UP, [tenant_id, new])
            found.update(cursor.fetchall())
    _remember_once_committed(tenant_id, found)
    return found


def _remember_once_committed(tenant_id: int, found: dict[str, int]) -> None:
    """At once outside of a transaction."""
    transaction.on_commit(partial(_remember, tenant_id, found))


def _remember(tenant_id: int, found: dict[str, int]) -> None:
    with _lock:
        if len(_ids) > CACHE_ENTRIES_MAX:
            _ids.clear()
        _ids.update({(tenant_id, name): metric_id for name, metric_id in found.items()})


def forget_cached_metrics() -> None:
    """Drop the cache (tests recreate their database)."""
    _ids.clear()
