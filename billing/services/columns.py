"""Statements over columns of values, sent as binary arrays.

Text arrays cost a search for quotes per value and their parsing; planning and settling
carry some seventy values for each push.
"""

from collections.abc import Iterable, Sequence
from typing import Any, LiteralString, cast

import psycopg
from django.db import connection


def execute(statement: LiteralString, columns: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Run ``statement``, whose every ``%s`` is a column, in the caller's transaction; its rows."""
    parts = statement.split("%s")
    if len(parts) != len(columns) + 1:
        raise ValueError(f"{len(parts) - 1} places for {len(columns)} columns")
    # A column without a value has no type that binary could name; its cast in SQL does.
    places = ["%b" if any(value is not None for value in column) else "%t" for column in columns]
    query = parts[0] + "".join(place + part for place, part in zip(places, parts[1:], strict=True))
    connection.ensure_connection()
    raw = cast("psycopg.Connection[Any]", connection.connection)
    with psycopg.Cursor(raw) as cursor:
        cursor.execute(query, list(columns), prepare=True, binary=True)
        return cursor.fetchall() if cursor.description else []


def columns_of(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    """Rows turned into columns; all rows are equally long and there is at least one."""
    return [list(column) for column in zip(*rows, strict=True)]
