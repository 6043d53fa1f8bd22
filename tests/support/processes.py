"""Real processes of StripeMeter against this worker's test database, to be killed at will."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from stripemeter.runtime.processes import end, free_port, in_session, wait_until
from tests.support.environment import ROOT


class ServerProcess:
    """A child process in a session of its own, with its output in a file."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        ready: Callable[[], bool] = lambda: True,
        env: dict[str, str] | None = None,
    ) -> None:
        self.command = list(command)
        self.log = log
        self.env = env or {}
        self._ready = ready
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Pid of the main process."""
        assert self._child is not None, "not started"
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the main process lives."""
        return self._child is not None and self._child.poll() is None

    def start(self, *, timeout_s: float = 240) -> None:
        """Start and wait until it is ready."""
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        came_up = wait_until(lambda: not self.running or self._ready(), timeout_s=timeout_s)
        if not came_up or not self.running:
            self.kill()
            raise RuntimeError(f"{self.command} did not come up:\n{self.output()}")

    def kill(self) -> None:
        """SIGKILL to it and all its descendants, as a machine that dies would."""
        self._signal_session(signal.SIGKILL)

    def stop(self, *, patience_s: float = 15) -> None:
        """SIGTERM to the main process; SIGKILL to what is left after ``patience_s`` seconds."""
        if self._child is not None:
            if self.running:
                self._child.terminate()
                wait_until(lambda: not self.running, timeout_s=patience_s)
            self.kill()

    def output(self) -> str:
        """What it said so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _signal_session(self, number: int) -> None:
        if self._child is None:
            return
        members = in_session(self._child.pid)
        for process in members:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue
        self._child.wait(timeout=60)
        end(in_session(self._child.pid), patience_s=0)


class HttpProcess(ServerProcess):
    """A process that answers HTTP on a loopback port."""

    def __init__(
        self,
        command: Callable[[int], Sequence[str]],
        log: Path,
        *,
        health: str,
        env: dict[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.health = health
        super().__init__(command(self.port), log, ready=self._answers, env=env)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.url + self.health, timeout=5).close()
            return True
        except urllib.error.HTTPError as refusal:
            refusal.close()
            return True  # it answers; whether it is healthy is for the test to say
        except OSError:
            time.sleep(0.05)
            return False


def granian(port: int, *, workers: int = 1) -> list[str]:
    """Command line of the web server as `manage.py up` runs it."""
    return [
        sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1",
        "--port", str(port), "--workers", str(workers), "--blocking-threads", "4",
        "stripemeter.wsgi:application",
    ]  # fmt: skip


def celery(*arguments: str) -> list[str]:
    """Command line of a Celery process."""
    return [sys.executable, "-m", "celery", "-A", "stripemeter.celery", *arguments]
