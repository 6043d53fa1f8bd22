"""`manage.py up`, as a newcomer meets it: one command up, one signal down, nothing left."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from stripemeter.runtime import env
from stripemeter.runtime.parts import Children
from stripemeter.runtime.postgres import PostgresServer
from stripemeter.runtime.processes import free_port, in_session, wait_until
from stripemeter.runtime.supervisor import answers
from tests.runtime.conftest import runtime_folder
from tests.support.environment import ROOT

#: The parts that `up` starts, as named in its log.
PARTS = {"postgres", "redis", "stripe", "web", "worker", "beat"}
#: Ends a hang. Coming up takes seconds, or minutes where twenty processes want two cores.
WAIT_S = 600


class Up:
    """One `manage.py up` in a runtime folder of its own."""

    def __init__(self, folder: Path, log: Path, port: int) -> None:
        kept = {"PATH", "HOME", "LANG", "TMPDIR"}
        environ = {name: value for name, value in os.environ.items() if name in kept}
        self.log = log
        self.url = f"http://127.0.0.1:{port}"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up"],
                cwd=ROOT,
                env=environ
                | {"STRIPEMETER_RUNTIME_DIR": str(folder), "STRIPEMETER_PORT": str(port)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def await_text(self, text: str) -> None:
        ended = lambda: self.process.poll() is not None  # noqa: E731
        found = wait_until(lambda: text in self.output() or ended(), timeout_s=WAIT_S, step_s=0.1)
        assert found, self.output()
        assert text in self.output(), self.output()

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=WAIT_S)


@pytest.fixture(scope="module")
def migrated_folder() -> Iterator[Path]:
    """One runtime folder for all: the second test finds its database migrated."""
    with runtime_folder() as path:
        yield path


@pytest.fixture
def start_up(migrated_folder: Path, tmp_path: Path) -> Iterator[Callable[[], Up]]:
    port = free_port()
    started: list[Up] = []

    def start() -> Up:
        started.append(Up(migrated_folder, tmp_path / f"up-{len(started)}.log", port))
        return started[-1]

    yield start
    for up in started:
        for process in in_session(up.process.pid):
            process.kill()


def _children(folder: Path) -> dict[str, psutil.Process]:
    """The living supervised processes, by name, as written down by the supervisor."""
    values = env.read_values(folder / "children.state")
    named = {name: int(value.partition(":")[0]) for name, value in values.items()}
    return {name: psutil.Process(pid) for name, pid in named.items() if psutil.pid_exists(pid)}


def _end_to_end(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_it_comes_up_survives_a_kill_of_its_supervisor_and_goes_down(
    migrated_folder: Path, start_up: Callable[[], Up]
) -> None:
    folder = migrated_folder
    first = start_up()
    first.await_text("StripeMeter is ready")
    assert set(_children(folder)) == PARTS
    # Ready it was; on a starved machine a heartbeat may be late just now.
    assert wait_until(lambda: answers(first.url + "/health/ready"), timeout_s=WAIT_S)

    again = start_up()
    again.await_text(f"StripeMeter already runs in this folder: {first.url}")
    assert again.process.wait(timeout=WAIT_S) == 0

    orphans = _children(folder)
    first.end(signal.SIGKILL)
    assert all(_end_to_end(process) for process in orphans.values())
    server_pid = PostgresServer(folder / "postgres").pid()

    second = start_up()
    second.await_text("StripeMeter is ready")
    assert "ended web, left over from a run that was killed" in second.output()
    assert not any(_end_to_end(process) for process in orphans.values())
    assert "migrating" not in second.output()
    assert PostgresServer(folder / "postgres").pid() == server_pid

    running = _children(folder)
    assert second.end(signal.SIGTERM) == 0
    assert not any(_end_to_end(process) for process in running.values())
    assert PostgresServer(folder / "postgres").pid() is None
    assert not (folder / "children.state").exists()


def test_a_part_that_dies_stops_all_and_is_named(
    migrated_folder: Path, start_up: Callable[[], Up]
) -> None:
    up = start_up()
    up.await_text("StripeMeter is ready")
    running = _children(migrated_folder)
    running["worker"].kill()
    assert up.process.wait(timeout=WAIT_S) != 0
    assert "worker ended by itself (exit code -9): stopping everything" in up.output()
    assert not any(_end_to_end(process) for process in running.values())


def test_a_taken_port_is_said_in_one_line(folder: Path, tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        up = Up(folder, tmp_path / "up.log", taken.getsockname()[1])
        assert up.process.wait(timeout=WAIT_S) == 1
    assert "set STRIPEMETER_PORT to a free one" in up.output()
    assert "Traceback" not in up.output()


def test_left_over_processes_are_only_ended_when_they_are_the_same(folder: Path) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        env.write_values(folder / "children.state", {"web": f"{stranger.pid}:{2**32}.0"})
        assert Children(folder).end() == []
        assert stranger.poll() is None
        children = Children(folder)
        children.add("web", stranger.pid)
        assert children.end() == ["web"]
        assert not psutil.pid_exists(stranger.pid)
