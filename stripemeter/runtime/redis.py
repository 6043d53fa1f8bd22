"""An embedded redis-server: a broker and cache that keeps nothing on disk.

It listens on a loopback port and asks for a password, since every account of the
machine can reach that port.
"""

import contextlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil
import redis

from stripemeter.runtime.binaries import find_redis
from stripemeter.runtime.env import read_values, write_values
from stripemeter.runtime.processes import (
    ProcessName,
    RuntimeProblem,
    end,
    free_port,
    locked,
    port_is_free,
    spawn,
    wait_until,
)


@dataclass(slots=True)
class RedisServer:
    """The server whose state file and log live in ``home``."""

    home: Path
    password: str
    port: int = 0
    _child: subprocess.Popen[bytes] | None = None

    @property
    def log_file(self) -> Path:
        """What the server says."""
        return self.home / "redis.log"

    def url(self, database: int = 0) -> str:
        """redis:// URL of one numbered database."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/{database}"

    def pid(self) -> int | None:
        """Pid of the running server, else None."""
        name, port = self._remembered()
        if name is None or name.find() is None:
            return None
        self.port = port
        return name.pid

    def start(self) -> None:
        """Start the server unless it runs and answers; wait until it does."""
        self.home.mkdir(parents=True, exist_ok=True)
        with locked(self.home / "lock"):
            if self.pid() is not None:
                if self._answers():
                    return
                self.stop()
            for _ in range(5):  # another process may take the port between choice and use
                if self._spawn():
                    return
        raise RuntimeProblem(f"redis-server does not start, see {self.log_file}")

    def stop(self) -> None:
        """End the server; its contents go with it."""
        name, _ = self._remembered()
        process = name.find() if name else None
        if process is not None:
            end([process], patience_s=5)
        if self._child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout=30)
        self._state_file.unlink(missing_ok=True)

    @property
    def _state_file(self) -> Path:
        return self.home / "redis.state"

    def _remembered(self) -> tuple[ProcessName | None, int]:
        state = read_values(self._state_file)
        try:
            name = ProcessName(int(state["pid"]), float(state["started_at"]))
            return name, int(state["port"])
        except (ValueError, KeyError):
            return None, 0

    def _spawn(self) -> bool:
        if not (self.port and port_is_free(self.port)):
            self.port = free_port()
        config = (
            f"bind 127.0.0.1\nport {self.port}\nrequirepass {self.password}\n"
            f'save ""\nappendonly no\ndaemonize no\ndatabases 64\n'
            f'maxmemory-policy noeviction\ndir "{self.home}"\n'
        )
        with self.log_file.open("ab") as log:
            # The configuration comes by pipe: an argument would show the password to everybody.
            self._child = spawn(
                [str(find_redis()), "-"], stdin=subprocess.PIPE, stdout=log, stderr=log
            )
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.write(config.encode())
            self._child.stdin.close()
        return self._await_answer(self._child)

    def _await_answer(self, child: subprocess.Popen[bytes]) -> bool:
        try:
            name = ProcessName.of(child.pid)
        except psutil.Error:
            return False
        wait_until(lambda: child.poll() is not None or self._answers(), timeout_s=60)
        if child.poll() is not None or not self._answers():
            return False
        state = {"pid": name.pid, "started_at": name.started_at, "port": self.port}
        write_values(self._state_file, {key: str(value) for key, value in state.items()})
        return True

    def _answers(self) -> bool:
        client = redis.Redis.from_url(self.url(), socket_timeout=2, socket_connect_timeout=2)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()
