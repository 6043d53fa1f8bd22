"""An embedded PostgreSQL server: its own process, its own data, found again after any crash.

What must stay true: a data directory has at most one server; a server that runs is
reused, never started twice; nothing of a killed server keeps a new one from starting.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from stripemeter.runtime.binaries import PostgresPrograms, find_postgres, readable_by
from stripemeter.runtime.processes import (
    RuntimeProblem,
    can_reach,
    end,
    free_port,
    in_directory,
    locked,
    port_is_free,
    server_account,
    spawn,
    wait_until,
)

SUPERUSER = "postgres"
OWNER_ROLE = "stripemeter_owner"
APP_ROLE = "stripemeter_app"
#: Longest socket path that Linux (107) and macOS (103) both take.
_SOCKET_PATH_MAX = 103
_MEGABYTE = 1024 * 1024


def laptop_settings() -> dict[str, str]:
    """Server settings for a laptop: those the benchmarks ask for, within a share of its memory.

    ``STRIPEMETER_POSTGRES_SETTINGS="shared_buffers=4GB max_wal_size=16GB"`` overrides them.
    """
    memory = psutil.virtual_memory().total // _MEGABYTE
    settings = {
        "shared_buffers": f"{max(128, min(1024, memory // 8))}MB",
        "effective_cache_size": f"{max(512, memory // 2)}MB",
        "max_wal_size": "4GB",
        "checkpoint_timeout": "15min",
        "wal_buffers": "16MB",
        "jit": "off",
        "random_page_cost": "1.1",
        "autovacuum_naptime": "5s",
        "max_connections": "200",
        "synchronous_commit": "on",
        "fsync": "on",
        "full_page_writes": "on",
    }
    for pair in os.environ.get("STRIPEMETER_POSTGRES_SETTINGS", "").split():
        name, _, value = pair.partition("=")
        settings[name] = value
    return settings


@dataclass(slots=True)
class PostgresServer:
    """The server whose files live in ``home``.

    ``tcp`` opens a loopback port too, guarded by passwords; the socket directory is
    closed to other accounts (mode 0700) and asks for none.
    """

    home: Path
    settings: Mapping[str, str] = field(default_factory=laptop_settings)
    tcp: bool = True
    programs: PostgresPrograms = field(default_factory=find_postgres)
    port: int = 5432
    _child: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.home = _reachable_home(self.home.absolute())

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.home / "data"

    @property
    def log_file(self) -> Path:
        """What the server says."""
        return self.home / "postgres.log"

    @property
    def socket_folder(self) -> Path:
        """Where the socket lies: in ``home``, or in /tmp when that path is too long."""
        folder = self.home / "run"
        if len(str(folder)) + len("/.s.PGSQL.65535.lock") <= _SOCKET_PATH_MAX:
            return folder
        digest = hashlib.sha256(str(self.home).encode()).hexdigest()[:12]
        return Path("/tmp") / f"stripemeter-{os.geteuid()}-{digest}"  # noqa: S108  owner is checked

    def url(self, role: str, database: str, *, password: str = "") -> str:
        """libpq URL over the socket."""
        login = quote(role, safe="") + (f":{quote(password, safe='')}" if password else "")
        query = f"host={quote(str(self.socket_folder), safe='/')}&port={self.port}"
        return f"postgresql://{login}@/{quote(database, safe='')}?{query}"

    def tcp_url(self, role: str, database: str, *, password: str) -> str:
        """libpq URL over the loopback port."""
        login = f"{quote(role, safe='')}:{quote(password, safe='')}"
        return f"postgresql://{login}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def connect(self, database: str = "postgres") -> "psycopg.Connection[Any]":
        """A superuser connection in autocommit, for bootstrap and tests."""
        return psycopg.connect(self.url(SUPERUSER, database), autocommit=True, connect_timeout=30)

    def pid(self) -> int | None:
        """Pid of the running server of this data directory, else None."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            process = psutil.Process(int(lines[0]))
            running = process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(self.data)
        except (OSError, ValueError, IndexError, psutil.Error):
            return None
        return process.pid if running else None

    def start(self) -> None:
        """Make the cluster when there is none, start it unless it runs, wait until it answers."""
        account = server_account()
        self.home.mkdir(parents=True, exist_ok=True)
        if account:
            os.chown(self.home, account.pw_uid, account.pw_gid)
        self.home.chmod(0o700)
        with locked(self.home / "lock"):
            programs = readable_by(self.programs, account, copy_to=self.home / "programs")
            if self.pid() is None:
                self._clear_leftovers()
                self._make_cluster(programs)
                self._make_socket_folder()
                self._choose_port()
                self._configure()
                self._spawn(programs)
            else:
                self._read_port()
            self._await_answer()

    def stop(self, *, patience_s: float = 20) -> None:
        """Fast shutdown (clients are disconnected); immediate when it takes too long."""
        pid = self.pid()
        if pid is None:
            return
        for how, wait_s in ((signal.SIGINT, patience_s), (signal.SIGQUIT, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
            if wait_until(self._is_gone, timeout_s=wait_s):
                return
        end(in_directory(self.data), patience_s=0)

    def destroy(self) -> None:
        """Stop the server and remove all its files."""
        self.stop(patience_s=5)
        if self.socket_folder.parent != self.home:
            shutil.rmtree(self.socket_folder, ignore_errors=True)
        shutil.rmtree(self.home, ignore_errors=True)

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of the server's log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])
        return ""

    # --- steps of start ----------------------------------------------------------------

    def _is_gone(self) -> bool:
        if self._child is not None:
            self._child.poll()  # reaps it, so that it is no zombie
        return self.pid() is None

    def _clear_leftovers(self) -> None:
        """End backends that outlived a killed postmaster, and drop its pid file.

        PostgreSQL itself refuses to start while either is there and looks alive.
        """
        if self.data.exists():
            end(in_directory(self.data), patience_s=2)
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _make_cluster(self, programs: PostgresPrograms) -> None:
        version_file = self.data / "PG_VERSION"
        if version_file.exists():
            major = int(version_file.read_text().strip())
            if major != programs.major:
                raise RuntimeProblem(
                    f"{self.data} was made by PostgreSQL {major}, the programs here are "
                    f"{programs.major}: run `make clean-demo` to begin anew."
                )
            return
        scratch = self.home / "data.new"  # renamed when complete: a killed initdb leaves no half
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(self.data, ignore_errors=True)
        command = [
            str(programs.folder / "initdb"), "-D", str(scratch), "-U", SUPERUSER,
            "--encoding=UTF8", "--auth-local=trust", "--auth-host=scram-sha-256",
            "--no-instructions", "--no-sync", *_locale_options(programs.major),
        ]  # fmt: skip
        done = subprocess.run(  # noqa: S603
            command, check=False, capture_output=True, text=True, **self._identity()
        )
        if done.returncode != 0:
            raise RuntimeProblem(f"initdb failed:\n{done.stdout}{done.stderr}")
        scratch.rename(self.data)

    def _make_socket_folder(self) -> None:
        folder = self.socket_folder
        account = server_account()
        owner = account.pw_uid if account else os.geteuid()
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            if account:
                os.chown(folder, account.pw_uid, account.pw_gid)
        status = folder.lstat()
        if folder.is_symlink() or status.st_uid != owner:
            raise RuntimeProblem(f"{folder} belongs to somebody else: remove it.")
        folder.chmod(0o700)
        for stale in folder.glob(".s.PGSQL.*"):
            stale.unlink(missing_ok=True)

    def _choose_port(self) -> None:
        """Keep the port of last time while it is free, so that bookmarks and DSNs stay true."""
        if not self.tcp:
            return
        with contextlib.suppress(OSError, ValueError):
            port = int((self.home / "port").read_text())
            if port_is_free(port):
                self.port = port
                return
        self.port = free_port()
        (self.home / "port").write_text(str(self.port))

    def _read_port(self) -> None:
        # Line 4 of postmaster.pid is the port (documented in storage-file-layout).
        self.port = int((self.data / "postmaster.pid").read_text().splitlines()[3])

    def _configure(self) -> None:
        values = dict(self.settings) | {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1" if self.tcp else "",
            "unix_socket_directories": str(self.socket_folder),
            "unix_socket_permissions": "0700",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "%m [%p] ",
        }
        lines = [f"{name} = '{_quoted(value)}'" for name, value in sorted(values.items())]
        text = "# Written at every start by stripemeter.runtime.postgres.\n" + "\n".join(lines)
        target = self.data / "stripemeter.conf"
        target.write_text(text + "\n")
        self._give(target)
        main_file = self.data / "postgresql.conf"
        include = "include 'stripemeter.conf'\n"
        if include not in main_file.read_text():
            with main_file.open("a") as handle:
                handle.write(include)

    def _spawn(self, programs: PostgresPrograms) -> None:
        if self.log_file.exists() and self.log_file.stat().st_size > 16 * _MEGABYTE:
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        command = [str(programs.folder / "postgres"), "-D", str(self.data)]
        with self.log_file.open("ab") as log:
            self._child = spawn(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._identity()
            )

    def _await_answer(self) -> None:
        refusal: list[str] = [""]

        def answers() -> bool:
            if self._child is not None and self._child.poll() is not None:
                raise RuntimeProblem(f"PostgreSQL ended at once:\n{self.log_tail()}")
            try:
                self.connect().close()
            except psycopg.OperationalError as error:
                refusal[0] = str(error)
                return False
            return True

        # Recovery after a kill replays the log: give it time.
        if not wait_until(answers, timeout_s=120):
            raise RuntimeProblem(f"PostgreSQL does not answer: {refusal[0]}\n{self.log_tail()}")

    def _identity(self) -> dict[str, Any]:
        """Keyword arguments of subprocess: who the server is and what it inherits."""
        identity: dict[str, Any] = {
            "cwd": str(self.home),
            "env": {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
        }
        account = server_account()
        if account:
            identity |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        return identity

    def _give(self, path: Path) -> None:
        account = server_account()
        if account:
            os.chown(path, account.pw_uid, account.pw_gid)


def bootstrap(
    server: PostgresServer, database: str, *, owner_password: str, app_password: str
) -> None:
    """Make the two roles and ``database``; passwords are set anew each time."""
    with server.connect() as connection:
        ensure_roles(connection, owner_password=owner_password, app_password=app_password)
        row = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database])
        if row.fetchone() is None:
            create_database(connection, database)
    with server.connect(database) as connection:
        set_default_privileges(connection)


def create_database(connection: "psycopg.Connection[Any]", database: str) -> None:
    """An empty database that the owner role owns."""
    connection.execute(
        sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0").format(
            sql.Identifier(database), sql.Identifier(OWNER_ROLE)
        )
    )


def set_default_privileges(connection: "psycopg.Connection[Any]") -> None:
    """What the application role may do with the tables that migrations will make here.

    The migrations of append-only tables take UPDATE and DELETE away again.
    """
    names = {"owner": sql.Identifier(OWNER_ROLE), "app": sql.Identifier(APP_ROLE)}
    for grant in (
        "GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {app}",
        "GRANT USAGE, SELECT ON SEQUENCES TO {app}",
    ):
        statement = "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public " + grant
        connection.execute(sql.SQL(statement).format(**names))


def ensure_roles(
    connection: "psycopg.Connection[Any]", *, owner_password: str, app_password: str
) -> None:
    """Make ``stripemeter_owner`` and ``stripemeter_app`` unless they are there; set passwords."""
    for role, password in ((OWNER_ROLE, owner_password), (APP_ROLE, app_password)):
        known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone()
        verb = "ALTER" if known else "CREATE"
        connection.execute(
            sql.SQL("{} ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {}").format(
                sql.SQL(verb), sql.Identifier(role), sql.Literal(password)
            )
        )


def _locale_options(major: int) -> list[str]:
    """Text sorts by code point, which is what the fold groups by; upper and lower know Unicode."""
    if major >= 17:
        return ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    return ["--locale=C"]


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")


def _reachable_home(wanted: Path) -> Path:
    """``wanted``, or a place in /var/lib when root's server account cannot walk there.

    As root, in a checkout below /root (mode 700), the account of the server cannot reach
    the data; opening /root to everybody would be worse than keeping them elsewhere.
    """
    account = server_account()
    if account is None or can_reach(wanted.parent, account):
        return wanted
    digest = hashlib.sha256(str(wanted).encode()).hexdigest()[:12]
    elsewhere = Path("/var/lib/stripemeter") / digest
    elsewhere.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    return elsewhere
