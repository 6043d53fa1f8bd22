"""Supervises the processes of one machine: starts them in order, shows their logs, ends them.

Built on honcho's manager. When one process ends, all end; a second Ctrl-C kills at once.
"""

import os
import shlex
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from honcho import manager as honcho_manager
from honcho.compat import ProcessManager
from honcho.manager import Manager
from honcho.printer import Message

from stripemeter.runtime.parts import Children
from stripemeter.runtime.processes import wait_until

#: Seconds between SIGTERM and SIGKILL: a worker finishes the task it is at.
PATIENCE_S = 12


class _GentleEnd(ProcessManager):  # type: ignore[misc]
    """Sends SIGTERM to the main process only: Celery's pool children would die mid-task."""

    def terminate(self, pid: int) -> None:
        """Ask a process to end."""
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            return


class Supervisor(Manager):  # type: ignore[misc]
    """Runs the processes until one ends or a signal comes."""

    def __init__(self, root: Path, children: Children, *, after_start: Callable[[], None]) -> None:
        super().__init__()
        honcho_manager.KILL_WAIT = PATIENCE_S
        self._procmgr = _GentleEnd()
        self._root = root
        self._children = children
        self._after_start = after_start
        self.first_ended: tuple[str, int] | None = None

    def add(self, name: str, command: Sequence[str], environ: Mapping[str, str]) -> None:
        """Add one process, started by `run`."""
        # "exec": the process itself gets our signals, not a shell before it.
        text = "exec " + shlex.join(command)
        self.add_process(name, text, env=dict(environ), cwd=str(self._root))

    def run(self) -> int:
        """Run until all have ended; 0 after Ctrl-C or SIGTERM, else the code of who ended first."""
        self.loop()
        self._children.end()
        if self.first_ended is None:
            return 0
        return self.first_ended[1] or 1

    def say(self, text: str, *, name: str = "system") -> None:
        """Print lines among the logs; callable from any thread."""
        message = Message(
            type="line", data=text + "\n", time=self._clock.now(), name=name, colour=None
        )
        self.events.put(message)

    # --- honcho's hooks ----------------------------------------------------------------

    def _start(self) -> None:
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)
        super()._start()
        watch = threading.Thread(target=self._watch_start, daemon=True)
        watch.start()

    def _watch_start(self) -> None:
        """Write the pids down as they come, then do what is to be done once all have started."""
        written: set[str] = set()

        def all_written() -> bool:
            for name, process in list(self._processes.items()):
                if process.get("pid") and name not in written:
                    self._children.add(name, process["pid"])
                    written.add(name)
            return len(written) == len(self._processes)

        wait_until(all_written, timeout_s=120)
        self._after_start()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._terminating:
            self._system_print("killing at once\n")
            self.kill()
            return
        self._system_print("stopping (again to kill)\n")
        self.returncode = 0
        self.terminate()

    def terminate(self) -> None:
        """End all; remembers who ended of itself."""
        if not self._terminating and self.returncode != 0:
            self.first_ended = self._ended_of_itself()
            if self.first_ended:
                name, code = self.first_ended
                self._system_print(
                    f"{name} ended by itself (exit code {code}): stopping everything. "
                    "Its last lines above say why.\n"
                )
        super().terminate()

    def _ended_of_itself(self) -> tuple[str, int] | None:
        for name, process in self._processes.items():
            if process.get("returncode") is not None:
                return name, process["returncode"]
        return None

    def _killall(self, force: bool = False) -> None:
        for name, process in self._processes.items():
            if "returncode" in process or process.get("pid") is None:
                continue
            if force:
                self._system_print(f"killing {name}\n")
                self._procmgr.kill(process["pid"])
            else:
                self._procmgr.terminate(process["pid"])


def answers(url: str) -> bool:
    """Whether a GET of ``url`` gives 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  our own address
            return bool(answer.status == 200)
    except OSError:
        return False


def refusal(url: str) -> str:
    """What ``url`` says when it does not give 200, shortened."""
    try:
        urllib.request.urlopen(url, timeout=5).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        with error:
            return f"{error.code} {error.read(2_000).decode(errors='replace')}"
    except OSError as error:
        return str(error)
    return "200"


def stream(command: Sequence[str], say: Callable[[str], None], **options: Any) -> int:
    """Run a command to its end, handing each line it prints to ``say``; its exit code."""
    child = subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **options,
    )
    assert child.stdout is not None
    for line in child.stdout:
        say(line.rstrip("\n"))
    return child.wait()


def web_command(port: int, *, host: str = "127.0.0.1") -> list[str]:
    """The web server: a process a core, four threads each."""
    processes = str(max(1, min(4, os.cpu_count() or 1)))
    return [
        sys.executable, "-m", "granian", "--interface", "wsgi", "--no-ws",
        "--host", host, "--port", str(port), "--workers", processes,
        "--blocking-threads", "4", "--respawn-failed-workers",
        "--http1-header-read-timeout", "10000", "stripemeter.wsgi:application",
    ]  # fmt: skip


def celery_command(*arguments: str) -> list[str]:
    """A Celery process of the project, without its banner."""
    return [sys.executable, "-m", "celery", "--quiet", "-A", "stripemeter", *arguments]
