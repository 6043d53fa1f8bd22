"""The environment of a test run, laid out before Django reads its settings.

One folder a run, made by the first process (the controller, when xdist splits the run)
and shared by its workers. Each worker has a database and a Redis number of its own.
"""

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from stripemeter.runtime.env import GENERATED_SECRETS, GROUPS, read_values, write_values
from stripemeter.runtime.postgres import APP_ROLE, OWNER_ROLE, PostgresServer
from stripemeter.runtime.processes import ProcessName
from stripemeter.runtime.redis import RedisServer

ROOT = Path(__file__).resolve().parents[2]
#: Password of both roles on a test server; the embedded one asks for none.
ROLE_PASSWORD = "for-tests-only"
_FOLDER_VARIABLE = "STRIPEMETER_TEST_FOLDER"
_PREFIX = "stripemeter-test-"
#: Variables of ours that a developer may set for the tests.
_KEPT = frozenset(
    {
        _FOLDER_VARIABLE,
        "STRIPEMETER_LIVE_TEST_KEY",
        "STRIPEMETER_SHARED",
        "STRIPEMETER_POSTGRES_BIN",
    }
)
#: Durability is PostgreSQL's own business here; crash tests bring a server of their own.
FAST_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "max_connections": "200",
    "autovacuum_naptime": "5s",
    "jit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


@dataclass(frozen=True, slots=True)
class TestRun:
    """Where this run keeps its things, and which part of it this process is."""

    __test__ = False

    folder: Path
    worker: str
    #: URL of a superuser on a server of the developer's own, or empty.
    external_url: str

    @property
    def is_controller(self) -> bool:
        """Whether this process made the folder and has to clean it up."""
        return "PYTEST_XDIST_WORKER" not in os.environ

    @property
    def database(self) -> str:
        """Name of this worker's database; unique on a shared server."""
        return f"stripemeter_{self.folder.name.removeprefix(_PREFIX)}_{self.worker}"

    @property
    def number(self) -> int:
        """0 without xdist, else 1 for gw0, 2 for gw1, ..."""
        return int(self.worker.removeprefix("gw")) + 1 if self.worker != "main" else 0

    def postgres(self) -> PostgresServer:
        """The embedded server of this run (not started)."""
        return PostgresServer(self.folder / "postgres", settings=FAST_SETTINGS, tcp=False)

    def redis(self) -> RedisServer:
        """The Redis of this run (not started)."""
        return RedisServer(self.folder / "redis", password="for-tests-only")


def prepare() -> TestRun:
    """Lay out the run and set the environment; must come before Django's settings."""
    if "stripemeter.settings" in sys.modules:
        raise RuntimeError("Unset DJANGO_SETTINGS_MODULE: tests/conftest.py sets it.")
    external_url = os.environ.get("TEST_DATABASE_URL", "")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    if worker == "main":
        sweep()
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp"))
        folder.chmod(0o711)  # the server account of root walks through
        me = ProcessName.of(os.getpid())
        write_values(folder / "owner", {"pid": str(me.pid), "started_at": str(me.started_at)})
        os.environ[_FOLDER_VARIABLE] = str(folder)
    run = TestRun(Path(os.environ[_FOLDER_VARIABLE]), worker, external_url)
    redis = run.redis()
    redis.start()
    _set_environment(run, redis.url(run.number))
    return run


def _set_environment(run: TestRun, redis_url: str) -> None:
    """Replace whatever the developer's shell says: a test never meets a real account."""
    (run.folder / "static").mkdir(exist_ok=True)
    # Only the first process sees the developer's key: workers inherit the one set below.
    real_key = os.environ.get("STRIPE_TEST_SECRET_KEY", "") if run.is_controller else ""
    for name in list(os.environ):
        stripemeters = name.startswith(("STRIPEMETER_", "STRIPE_"))
        if stripemeters and name not in _KEPT:
            del os.environ[name]
    for name in (name for names in GROUPS.values() for name in names):
        os.environ.pop(name, None)
    os.environ |= {
        "STRIPEMETER_ENV": "test",
        "STRIPEMETER_IGNORE_RUNTIME": "1",
        "STRIPEMETER_RUNTIME_DIR": str(run.folder / f"runtime-{run.worker}"),
        "REDIS_URL": redis_url,
        "DATABASE_URL": role_url(run, APP_ROLE, run.database),
        "DATABASE_OWNER_URL": role_url(run, OWNER_ROLE, run.database),
        # Nothing answers there: the `sandbox` fixture gives the address of one that does.
        "STRIPE_API_BASE": "http://127.0.0.1:9",
        "STRIPE_METER_EVENTS_BASE": "http://127.0.0.1:9",
        "STRIPE_SECRET_KEY": "sk_live_for_tests_only",
        "STRIPE_TEST_SECRET_KEY": "sk_test_for_tests_only",
        "STRIPE_WEBHOOK_SECRET": "whsec_" + "t" * 32,
        "LOG_LEVEL": "WARNING",
        "STRIPEMETER_STATIC_ROOT": str(run.folder / "static"),
        **{name: f"for-tests-only-{name.lower()}-{'t' * 24}" for name in GENERATED_SECRETS},
    }
    if real_key:
        os.environ["STRIPEMETER_LIVE_TEST_KEY"] = real_key
    os.environ["DJANGO_SETTINGS_MODULE"] = "stripemeter.settings"


def role_url(run: TestRun, role: str, database: str) -> str:
    """URL of one role and database on the server of this run."""
    if run.external_url:
        from psycopg.conninfo import conninfo_to_dict

        parts = conninfo_to_dict(run.external_url)
        host, port = parts.get("host", ""), parts.get("port", "5432")
        return f"postgresql://{role}:{ROLE_PASSWORD}@/{database}?host={host}&port={port}"
    return run.postgres().url(role, database)


def sweep() -> None:
    """Stop and remove what killed runs left behind."""
    for folder in Path("/tmp").glob(f"{_PREFIX}*"):
        owner = read_values(folder / "owner")
        if not owner or ProcessName(int(owner["pid"]), float(owner["started_at"])).find():
            continue
        if os.access(folder, os.W_OK):
            destroy(folder)


def destroy(folder: Path) -> None:
    """Stop the servers of a run and remove its folder."""
    PostgresServer(folder / "postgres", tcp=False).destroy()
    RedisServer(folder / "redis", password="").stop()
    shutil.rmtree(folder, ignore_errors=True)
