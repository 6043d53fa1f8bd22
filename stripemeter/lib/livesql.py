"""The thread's database connection for paths that count microseconds.

Django's cursor asks the server ``SELECT 1`` once a request before it trusts a kept connection. Here
the socket is asked instead: an idle connection has nothing to say, so a readable socket is the end
of it. That costs a microsecond, the round trip a hundred and more.
"""

import select
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connection

from stripemeter.lib import rowsecurity


def live_connection() -> psycopg.Connection[Any]:
    """The thread's connection, reopened if the server has hung up meanwhile."""
    connection.ensure_connection()
    raw: psycopg.Connection[Any] = connection.connection
    if not connection.in_atomic_block and (
        raw.closed or select.select([raw.fileno()], [], [], 0)[0]
    ):
        connection.close()
        connection.ensure_connection()
        raw = connection.connection
        rowsecurity.renew()
    return raw


@contextmanager
def raw_cursor() -> Iterator[psycopg.Cursor[Any]]:
    """A cursor on it that prepares statements; errors are Django's, as from its own cursor."""
    with connection.wrap_database_errors, psycopg.Cursor(live_connection()) as cursor:
        yield cursor
