"""Finds, names and ends processes, across crashes of whoever started them.

A pid alone names nothing for long: the kernel hands it out again. A process is named
here by its pid and its start time, and a server's strays by the directory they work in.
"""

import atexit
import contextlib
import fcntl
import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil


class RuntimeProblem(Exception):
    """Something on this machine stands in the way; the message says what and what to do."""


@dataclass(frozen=True, slots=True)
class ProcessName:
    """A process for as long as it lives: pid and start time (seconds since the epoch)."""

    pid: int
    started_at: float

    @classmethod
    def of(cls, pid: int) -> "ProcessName":
        """Name the living process ``pid``; `psutil.NoSuchProcess` when there is none."""
        return cls(pid, psutil.Process(pid).create_time())

    def find(self) -> psutil.Process | None:
        """The process, or None when it is gone (a zombie is gone)."""
        try:
            process = psutil.Process(self.pid)
            # Start times are kept in clock ticks: compare with room for rounding.
            if abs(process.create_time() - self.started_at) > 0.05:
                return None
            return None if process.status() == psutil.STATUS_ZOMBIE else process
        except psutil.Error:
            return None


#: Servers started here: kept so that they are reaped, never reported as forgotten.
_children: list[subprocess.Popen[bytes]] = []


def spawn(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own: a Ctrl-C meant for us does not reach it."""
    child = subprocess.Popen(command, start_new_session=True, **options)  # noqa: S603
    if not _children:
        atexit.register(_let_go)
    _children.append(child)
    return child


def _let_go() -> None:
    """Servers outlive us on purpose: say so, or the interpreter warns about each."""
    for child in _children:
        if child.poll() is None:
            child.returncode = 0


def in_directory(directory: Path) -> list[psutil.Process]:
    """Living processes whose working directory is ``directory``."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.cwd() == str(directory) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def in_session(session_id: int) -> list[psutil.Process]:
    """Living processes of the session that ``session_id`` led; the leader may be dead."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == session_id and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end(processes: Iterable[psutil.Process], *, patience_s: float) -> None:
    """SIGTERM, then SIGKILL after ``patience_s`` seconds, then wait until all are gone."""
    processes = list(processes)
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGTERM)
    _, stubborn = psutil.wait_procs(processes, timeout=patience_s)
    for process in stubborn:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(stubborn, timeout=30)


def wait_until(condition: Callable[[], bool], *, timeout_s: float, step_s: float = 0.02) -> bool:
    """Poll ``condition``; False when it stayed false for ``timeout_s`` seconds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(step_s)
    return True


def free_port() -> int:
    """A loopback TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_is_free(port: int) -> bool:
    """Whether a server could listen on the loopback ``port`` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path``; the kernel drops it when the holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def server_account() -> pwd.struct_passwd | None:
    """The account a server that refuses root runs as; None when we are not root.

    PostgreSQL refuses to run as root, and looks its user up in the password database.
    """
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody", "daemon"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeProblem(
        "PostgreSQL refuses to run as root and this system has no account to lend it: "
        "run as an ordinary user, or set DATABASE_URL to a server of your own."
    )


def can_reach(path: Path, account: pwd.struct_passwd) -> bool:
    """Whether ``account`` may walk down to ``path`` (ancestors that exist are looked at)."""
    for folder in [path, *path.parents]:
        try:
            status = folder.stat()
        except FileNotFoundError:
            continue
        if status.st_uid == account.pw_uid:
            wanted = 0o100
        elif status.st_gid == account.pw_gid:
            wanted = 0o010
        else:
            wanted = 0o001
        if not status.st_mode & wanted:
            return False
    return True
