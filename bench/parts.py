"""The processes that a measurement needs: database, Redis, web, folder."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from stripemeter.runtime.postgres import (
    APP_ROLE,
    OWNER_ROLE,
    PostgresServer,
    bootstrap,
    laptop_settings,
)
from stripemeter.runtime.redis import RedisServer

ROOT = Path(__file__).resolve().parent.parent
PASSWORD = "bench-only"


@dataclass(frozen=True)
class Parts:
    """Addresses of what was started."""

    dsn: str
    url: str
    port: int


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(stack: ExitStack) -> Parts:
    """Start everything with durable settings; the environment points at it afterwards."""
    dsn = start_data(stack)
    port = free_port()
    _web(stack, port)
    return Parts(dsn, f"http://127.0.0.1:{port}", port)


def bare_web(stack: ExitStack) -> str:
    """Start the view of `bench.bare` on a server like the service's; its URL."""
    port = free_port()
    _web(stack, port, "bench.bare:application")
    return f"http://127.0.0.1:{port}"


def start_data(stack: ExitStack) -> str:
    """Start PostgreSQL and Redis, migrated; the owner's URL of the database."""
    home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stripemeter-bench-")))
    server = PostgresServer(home / "pg", settings={**laptop_settings(), "max_wal_size": "16GB"})
    server.start()
    stack.callback(server.stop)
    bootstrap(server, "bench", owner_password=PASSWORD, app_password=PASSWORD)
    redis = RedisServer(home / "redis", password=PASSWORD)
    redis.start()
    stack.callback(redis.stop)
    os.environ.update(
        DATABASE_URL=server.url(APP_ROLE, "bench"),
        DATABASE_OWNER_URL=server.url(OWNER_ROLE, "bench"),
        REDIS_URL=redis.url(),
        STRIPEMETER_ENV="test",
        STRIPEMETER_IGNORE_RUNTIME="1",
        DJANGO_SETTINGS_MODULE="stripemeter.settings",
        TENANT_RATE_LIMIT="10000000",
        LOG_LEVEL="ERROR",
    )
    subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, check=True)
    return server.url(OWNER_ROLE, "bench")


def _web(stack: ExitStack, port: int, application: str = "stripemeter.wsgi:application") -> None:
    command = [
        sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1",
        "--port", str(port), "--workers", "2", "--blocking-threads", "4", "--no-access-log",
        "--log-level", "warning", application,
    ]  # fmt: skip
    stack.enter_context(_process(command))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the web server did not start")


@contextmanager
def folder() -> Iterator[None]:
    """A process that folds as the Celery task does, while the block runs.

    Its start is over when the block begins: it would cost a core for two seconds.
    """
    with _process([sys.executable, "-m", "bench.folder"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if process.stdout.readline().strip() != b"folds":
            raise RuntimeError("the folder did not start")
        yield


@contextmanager
def _process(command: list[str], *, stdout: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=stdout)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
