"""The embedded parts as one: which are needed, where they are, how they start and end."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stripemeter.runtime import env
from stripemeter.runtime.postgres import APP_ROLE, OWNER_ROLE, PostgresServer, bootstrap
from stripemeter.runtime.processes import (
    ProcessName,
    end,
    free_port,
    in_session,
    port_is_free,
)
from stripemeter.runtime.redis import RedisServer

DATABASE = "stripemeter"
SANDBOX_PORT = 12111
WEB_PORT = 3000
#: Secrets of the embedded servers, beside those of settings.
_SERVER_SECRETS = (
    "POSTGRES_OWNER_PASSWORD",
    "POSTGRES_APP_PASSWORD",
    "REDIS_PASSWORD",
    "SANDBOX_WEBHOOK_SECRET",
    "DEMO_PASSWORD",
)


@dataclass(slots=True)
class Parts:
    """Everything embedded in one runtime folder."""

    folder: Path
    outside: frozenset[str]
    secrets: Mapping[str, str]
    sandbox_port: int = SANDBOX_PORT

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Parts":
        """The parts that ``environ`` does not replace with services of its own."""
        folder = env.runtime_folder(environ)
        folder.mkdir(parents=True, exist_ok=True)
        # PostgreSQL's own account walks through when we are root; files inside stay private.
        folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
        secrets = env.generated_secrets(folder, extra=_SERVER_SECRETS)
        return cls(folder, frozenset(env.outside_groups(environ)), secrets)

    @property
    def postgres(self) -> PostgresServer:
        """The embedded database server."""
        return PostgresServer(self.folder / "postgres")

    @property
    def redis(self) -> RedisServer:
        """The embedded broker and cache."""
        return RedisServer(self.folder / "redis", password=self.secrets["REDIS_PASSWORD"])

    def start_servers(self) -> dict[str, str]:
        """Start database and Redis unless they run; the variables that lead to them."""
        values: dict[str, str] = {}
        if "postgres" not in self.outside:
            server = self.postgres
            server.start()
            owner, app = (self.secrets[f"POSTGRES_{r}_PASSWORD"] for r in ("OWNER", "APP"))
            bootstrap(server, DATABASE, owner_password=owner, app_password=app)
            values["DATABASE_URL"] = server.tcp_url(APP_ROLE, DATABASE, password=app)
            values["DATABASE_OWNER_URL"] = server.tcp_url(OWNER_ROLE, DATABASE, password=owner)
        if "redis" not in self.outside:
            broker = self.redis
            broker.start()
            values["REDIS_URL"] = broker.url()
        return values

    def stripe_values(self) -> dict[str, str]:
        """The variables that lead to the sandbox; keys that no real Stripe knows."""
        if "stripe" in self.outside:
            return {}
        if not port_is_free(self.sandbox_port):
            self.sandbox_port = free_port()
        base = f"http://127.0.0.1:{self.sandbox_port}"
        return {
            "STRIPE_API_BASE": base,
            "STRIPE_METER_EVENTS_BASE": base,
            "STRIPE_SECRET_KEY": "sk_live_sandbox",
            "STRIPE_TEST_SECRET_KEY": "sk_test_sandbox",
            "STRIPE_WEBHOOK_SECRET": "whsec_" + self.secrets["SANDBOX_WEBHOOK_SECRET"],
        }

    def setting_secrets(self) -> dict[str, str]:
        """The generated secrets of settings."""
        return {name: self.secrets[name] for name in env.GENERATED_SECRETS}

    def stop_servers(self) -> None:
        """Stop the embedded database and Redis."""
        if "redis" not in self.outside:
            self.redis.stop()
        if "postgres" not in self.outside:
            self.postgres.stop()


class Children:
    """The supervised processes on file, so that a killed supervisor leaves no orphan for long."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "children.state"

    def add(self, name: str, pid: int) -> None:
        """Remember a process that was started."""
        with contextlib.suppress(Exception):  # it may be gone already: then there is no need
            process = ProcessName.of(pid)
            values = env.read_values(self._file)
            values[name] = f"{process.pid}:{process.started_at}"
            env.write_values(self._file, values)

    def end(self, *, patience_s: float = 3) -> list[str]:
        """End whatever still lives of them and of their descendants; the names of those."""
        lived = []
        for name, value in env.read_values(self._file).items():
            pid, _, started_at = value.partition(":")
            process = ProcessName(int(pid), float(started_at))
            # A session's number is not given out again while a member lives: members of
            # this session are ours when they are no older than its leader.
            members = [
                member
                for member in in_session(process.pid)
                if member.create_time() >= process.started_at - 1
            ]
            if members:
                lived.append(name)
                end(members, patience_s=patience_s)
        self._file.unlink(missing_ok=True)
        return lived


def migrations_digest(root: Path) -> str:
    """Digest of every migration in the tree and of the locked versions."""
    digest = hashlib.sha256()
    paths = [
        path
        for pattern in ("*/migrations/**/*", "*/*/migrations/**/*", "*/*_migrations/*")
        for path in root.glob(pattern)
        if path.suffix in {".py", ".sql"} and not path.is_relative_to(root / ".venv")
    ]
    for path in [root / "requirements.lock", *sorted(paths)]:
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def clean(environ: Mapping[str, str]) -> None:
    """Stop every embedded part of this checkout and remove all its data."""
    folder = env.runtime_folder(environ)
    if not folder.exists():
        return
    Children(folder).end()
    PostgresServer(folder / "postgres").destroy()
    RedisServer(folder / "redis", password="").stop()
    shutil.rmtree(folder)
