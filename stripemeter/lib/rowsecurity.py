"""The second wall between tenants: PostgreSQL's row-level security.

Every query starts from a tenant; if one ever does not, the database still shows nothing of
another. A connection says for whom it works in ``stripemeter.tenant``: a tenant's number,
``all`` (workers, operators' pages, commands), or nothing, which shows nothing. API requests
narrow their connection to the caller's tenant; it stays so until somebody else comes, so a
busy tenant costs no extra round trip.
"""

from typing import Any

from django.conf import settings
from django.db import connection

ALL = "all"
SETTING = "stripemeter.tenant"
POLICY = "tenant_wall"

# Sub-selects make PostgreSQL read the setting once a statement, not once a row.
_ALLOWED = f"""
    (SELECT current_setting('{SETTING}', true)) = '{ALL}'
    OR tenant_id = (SELECT NULLIF(NULLIF(current_setting('{SETTING}', true), '{ALL}'), '')::bigint)
"""


def narrow(tenant_id: int) -> None:
    """From now on this thread's connection sees rows of ``tenant_id`` only."""
    _work_for(str(tenant_id))


def widen() -> None:
    """This thread's connection sees all rows again; free if it does already."""
    _work_for(ALL)


def renew() -> None:
    """Tell a connection that was opened in place of a lost one for whom that one worked."""
    _, whom = getattr(connection, "_works_for", (None, ALL))
    if whom != "unknown":
        _work_for(whom)


def _work_for(whom: str) -> None:
    if settings.DATABASE_POOLER:
        return  # behind a transaction pooler a session's setting would reach other clients
    raw = connection.connection
    of, current = getattr(connection, "_works_for", (None, ALL))
    if of is not raw:
        current = ALL  # a new connection; settings make it start wide
    if current == whom:
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config(%s, %s, false)", [SETTING, whom])
    # Inside a transaction a rollback would undo the setting behind our back: never trust it.
    kept = "unknown" if connection.in_atomic_block else whom
    connection._works_for = (connection.connection, kept)  # type: ignore[attr-defined]


def protect_tables(**_: Any) -> None:
    """Put every table with a ``tenant_id`` behind the wall; runs after each migrate."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT c.oid::regclass::text FROM pg_class c
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
            WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
              AND NOT a.attisdropped
              AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = %s)
            """,
            [POLICY],
        )
        for (table,) in cursor.fetchall():
            cursor.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            cursor.execute(
                f"CREATE POLICY {POLICY} ON {table} USING ({_ALLOWED}) WITH CHECK ({_ALLOWED})"
            )
