"""The test databases: a template migrated once, a copy of it for each worker.

Migrated clusters are kept in the user's cache folder under a digest of everything that
shapes them, so that the next run starts in a second. `TEST_DATABASE_URL` (a superuser's)
uses another server instead.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from stripemeter.runtime.postgres import (
    OWNER_ROLE,
    PostgresServer,
    create_database,
    ensure_roles,
    laptop_settings,
    set_default_privileges,
)
from stripemeter.runtime.processes import locked, server_account
from tests.support.environment import ROLE_PASSWORD, ROOT, TestRun, role_url

#: Rows of these come from the migrations and stay through every test.
_KEPT_TABLES = frozenset({"django_migrations", "django_content_type", "auth_permission"})
_CACHE = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    / "stripemeter"
    / "test-clusters"
)
_KEPT_CLUSTERS = 8


SEES_ALL_TENANTS = "-c stripemeter.tenant=all"


class Cluster:
    """The database server of a run, seen with a superuser's rights."""

    def __init__(self, run: TestRun) -> None:
        self.run = run
        prefix = run.database.rsplit("_", 1)[0]
        self.template = f"{prefix}_template" if run.external_url else "stripemeter_template"
        self._rows_query: sql.Composed | None = None

    def ensure(self) -> None:
        """Start the server and make the template, once per run, whoever asks first."""
        with locked(self.run.folder / "cluster.lock"):
            ready = self.run.folder / "cluster.ready"
            if ready.exists():
                return
            if self.run.external_url:
                self._make_template()
                self._migrate("all")
            else:
                self._start_embedded()
            ready.touch()

    def connect(self, database: str = "postgres") -> "psycopg.Connection[Any]":
        """A superuser's connection in autocommit."""
        if self.run.external_url:
            return psycopg.connect(self.run.external_url, dbname=database, autocommit=True)
        return self.run.postgres().connect(database)

    def make_database(self, name: str) -> None:
        """Copy the template; a database left by a killed worker is replaced."""
        self.drop_database(name)
        with self.connect() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY FILE_COPY").format(
                    sql.Identifier(name), sql.Identifier(self.template), sql.Identifier(OWNER_ROLE)
                )
            )

    def disconnect_others(self, database: str) -> None:
        """End every session in ``database``, so that it can be copied."""
        with self.connect(database) as connection:
            _disconnect_others(connection)

    def drop_database(self, name: str) -> None:
        """Drop a database and whoever is connected to it."""
        with self.connect() as connection:
            statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(statement.format(sql.Identifier(name)))

    def reset(self, database: str) -> None:
        """Empty every table that has rows, whatever its triggers say, and restart sequences."""
        with self.connect(database) as connection:
            # Triggers guard the ledger against TRUNCATE; this role stands above them.
            connection.execute("SET session_replication_role = replica")
            tables = self._tables_with_rows(connection)
            if not tables:
                return
            statement = sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE").format(
                sql.SQL(", ").join(sql.Identifier(table) for table in tables)
            )
            try:
                connection.execute("SET lock_timeout = '2s'")
                connection.execute(statement)
            except psycopg.errors.LockNotAvailable:
                _disconnect_others(connection)
                connection.execute(statement)

    def drop_all(self) -> None:
        """Remove what this run made on a server that is not its own."""
        if self.run.external_url and (self.run.folder / "cluster.ready").exists():
            prefix = self.template.removesuffix("template")
            with self.connect() as connection:
                rows = connection.execute(
                    "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [prefix]
                ).fetchall()
            for (name,) in rows:
                self.drop_database(name)

    # --- building ----------------------------------------------------------------------

    def _start_embedded(self) -> None:
        """Start on the newest kept cluster that fits: fully migrated, third-party tables, none."""
        server = self.run.postgres()
        base = _CACHE / f"base-{_digest(server.programs.major, _base_sources())}"
        full = _CACHE / f"full-{_digest(server.programs.major, _all_sources())}"
        if not _restore(full, server):
            if not _restore(base, server):
                server.start()
                self._make_template()
                self._migrate("third-party")
                _keep(server, base)
            self._migrate("all")
            _keep(server, full)

    def _make_template(self) -> None:
        with self.connect() as connection:
            ensure_roles(connection, owner_password=ROLE_PASSWORD, app_password=ROLE_PASSWORD)
            create_database(connection, self.template)
        with self.connect(self.template) as connection:
            set_default_privileges(connection)

    def _migrate(self, what: str) -> None:
        url = role_url(self.run, OWNER_ROLE, self.template)
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.migrate", what],
            cwd=ROOT,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "stripemeter.settings",
                "STRIPEMETER_DB_ROLE": "owner",
                "DATABASE_OWNER_URL": url,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"migrate failed:\n{done.stdout}{done.stderr}")

    def _tables_with_rows(self, connection: "psycopg.Connection[Any]") -> list[str]:
        if self._rows_query is None:
            rows = connection.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
                " AND relkind IN ('r', 'p') AND NOT relispartition"
            ).fetchall()
            probes = [
                sql.SQL("SELECT {} WHERE EXISTS (SELECT FROM {})").format(
                    sql.Literal(name), sql.Identifier(name)
                )
                for (name,) in rows
                if name not in _KEPT_TABLES
            ]
            self._rows_query = sql.SQL(" UNION ALL ").join(probes)
        return [name for (name,) in connection.execute(self._rows_query)]


def _disconnect_others(connection: "psycopg.Connection[Any]") -> None:
    connection.execute(
        "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


def _digest(major: int, sources: Iterable[Path]) -> str:
    """Digest of all that shapes a kept cluster."""
    digest = hashlib.sha256(str(major).encode())
    for path in sorted(sources):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0")
        digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


def _base_sources() -> list[Path]:
    """What shapes the tables of others: versions, dj-stripe's generated migration, the server."""
    return [
        ROOT / "requirements-dev.lock",
        ROOT / "stripemeter/runtime/postgres.py",
        ROOT / "stripemeter/djstripe_migrations/0001_initial.py",
    ]


def _all_sources() -> list[Path]:
    """The same and what shapes ours: models, migrations and their SQL."""
    sources = _base_sources()
    for folder in ("stripemeter", "ledger", "counters", "billing", "reconciliation", "widget"):
        for path in (ROOT / folder).rglob("*"):
            shapes = "migrations" in str(path) or "models" in str(path) or path.name == "apps.py"
            if shapes and path.suffix in {".py", ".sql"} and path not in sources:
                sources.append(path)
    return sources


def durable_copy(cluster: Cluster, home: Path) -> PostgresServer | None:
    """A running server of its own with our tables and production's durability, to be crashed.

    None when the run uses an external server and no embedded one is kept.
    """
    cluster.ensure()
    server = PostgresServer(home, settings=laptop_settings(), tcp=False)
    kept = _CACHE / f"full-{_digest(server.programs.major, _all_sources())}"
    return server if _restore(kept, server) else None


def _restore(kept: Path, server: PostgresServer) -> bool:
    """Start ``server`` on a copy of a kept cluster; False when there is none."""
    if not kept.exists():
        return False
    os.utime(kept)
    server.home.mkdir(mode=0o700, exist_ok=True)
    shutil.copytree(kept, server.data, symlinks=True)
    _give_tree(server.home)
    server.start()
    return True


def _keep(server: PostgresServer, kept: Path) -> None:
    """Keep a copy of the cluster for later runs of any checkout; the oldest copies go."""
    server.stop()
    kept.parent.mkdir(parents=True, exist_ok=True)
    scratch = kept.with_name(f".{kept.name}.{os.getpid()}")
    shutil.copytree(server.data, scratch, symlinks=True)
    with suppress(OSError):  # another run was faster
        scratch.rename(kept)
    shutil.rmtree(scratch, ignore_errors=True)
    by_age = sorted(_CACHE.glob("[bf]*-*"), key=lambda path: path.stat().st_mtime)
    for old in by_age[:-_KEPT_CLUSTERS]:
        shutil.rmtree(old, ignore_errors=True)
    server.start()


def _give_tree(folder: Path) -> None:
    account = server_account()
    if account:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)


@contextmanager
def raw_connection(run: TestRun, role: str) -> Iterator["psycopg.Connection[Any]"]:
    """A connection of its own to this worker's database, not known to Django."""
    # Like the service's own connections, these see every tenant unless a test narrows them.
    connection = psycopg.connect(role_url(run, role, run.database), options=SEES_ALL_TENANTS)
    try:
        yield connection
    finally:
        connection.close()
