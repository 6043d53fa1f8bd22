"""Storage of the sandbox: one SQLite file, objects cached in memory.

Objects (customers, meters, invoices, …) are JSON documents, kept in memory and
written through; meter events, the journal and idempotency keys live in SQLite
only. A request's writes are one SQLite transaction, committed before the answer
leaves. WAL with synchronous=OFF: an answer survives kill -9 of the process, since
the operating system has it (a loss of power may not; nobody bills from here).

Everything runs on the one thread of the event loop, so there are no locks.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

Doc = dict[str, Any]

SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    world TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, position INTEGER NOT NULL,
    doc TEXT NOT NULL, PRIMARY KEY (world, kind, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meter_events (
    seq INTEGER PRIMARY KEY, world TEXT NOT NULL, meter TEXT NOT NULL,
    customer TEXT NOT NULL, ts INTEGER NOT NULL, value TEXT NOT NULL, identifier TEXT NOT NULL,
    received REAL NOT NULL, visible REAL NOT NULL, state TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS meter_events_read ON meter_events (world, meter, customer, ts);
CREATE INDEX IF NOT EXISTS meter_events_identifier ON meter_events (world, identifier);
CREATE TABLE IF NOT EXISTS journal (
    seq INTEGER PRIMARY KEY, at REAL NOT NULL, world TEXT NOT NULL,
    outcome TEXT NOT NULL, event_name TEXT NOT NULL, meter TEXT NOT NULL, customer TEXT NOT NULL,
    identifier TEXT NOT NULL, value TEXT NOT NULL, timestamp INTEGER NOT NULL,
    idempotency_key TEXT NOT NULL, request TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS idempotency (
    world TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, path TEXT NOT NULL,
    status INTEGER NOT NULL, body BLOB NOT NULL, request TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (world, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

TABLES = ("objects", "meter_events", "journal", "idempotency", "settings")


class Store:
    """Objects by (world, kind, id), plus plain SQL for the large tables.

    A *world* is one account in one mode, for example "test:acct_1Sandbox".
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.db.row_factory = sqlite3.Row
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = OFF")
        self.db.executescript(SCHEMA)
        self._objects: dict[tuple[str, str], dict[str, Doc]] = {}
        self._positions: dict[tuple[str, str, str], int] = {}
        self._position = 0
        self._dirty = False
        self.changed_kinds: set[str] = set()
        """Kinds written since somebody last looked and cleared it."""
        self._load()

    def _load(self) -> None:
        """Fills the cache from the file, in the order of creation."""
        self._objects.clear()
        self._positions.clear()
        for row in self.db.execute("SELECT * FROM objects ORDER BY position"):
            self._objects.setdefault((row["world"], row["kind"]), {})[row["id"]] = json.loads(
                row["doc"]
            )
            self._positions[row["world"], row["kind"], row["id"]] = row["position"]
            self._position = max(self._position, row["position"])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commits everything inside as one; on an error nothing of it stays."""
        self.db.execute("BEGIN IMMEDIATE")
        self._dirty = False
        try:
            yield
        except BaseException:
            self.db.execute("ROLLBACK")
            if self._dirty:
                # The cache may hold half of it: the file is the truth.
                self._load()
            raise
        self.db.execute("COMMIT")

    def get(self, world: str, kind: str, identifier: str) -> Doc | None:
        """Returns the object itself: to change it, `put` a changed copy."""
        return self._objects.get((world, kind), {}).get(identifier)

    def all(self, world: str, kind: str) -> list[Doc]:
        """Returns every object of a kind, oldest first."""
        return list(self._objects.get((world, kind), {}).values())

    def worlds(self) -> list[str]:
        """Returns the worlds that hold anything."""
        return sorted({world for world, _ in self._objects if ":" in world})

    def put(self, world: str, kind: str, doc: Doc) -> Doc:
        """Writes an object, new or changed."""
        self._dirty = True
        self.changed_kinds.add(kind)
        key = (world, kind, doc["id"])
        if key not in self._positions:
            self._position += 1
            self._positions[key] = self._position
        self._objects.setdefault((world, kind), {})[doc["id"]] = doc
        self.db.execute(
            "INSERT OR REPLACE INTO objects (world, kind, id, position, doc) "
            "VALUES (?, ?, ?, ?, ?)",
            (*key, self._positions[key], json.dumps(doc)),
        )
        return doc

    def delete(self, world: str, kind: str, identifier: str) -> None:
        """Removes an object."""
        self._dirty = True
        self._objects.get((world, kind), {}).pop(identifier, None)
        self._positions.pop((world, kind, identifier), None)
        self.db.execute(
            "DELETE FROM objects WHERE world = ? AND kind = ? AND id = ?",
            (world, kind, identifier),
        )

    def setting(self, name: str) -> Any:
        """Returns a stored setting, or None."""
        row = self.db.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row["value"])

    def set_setting(self, name: str, value: Any) -> None:
        """Stores a setting as JSON."""
        self.db.execute(
            "INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)", (name, json.dumps(value))
        )

    def reset(self) -> None:
        """Empties everything."""
        with self.transaction():
            for table in TABLES:
                self.db.execute(f"DELETE FROM {table}")
        self._load()

    def close(self) -> None:
        """Closes the file."""
        self.db.close()
