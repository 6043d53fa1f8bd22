"""Starting and steering a sandbox process from tests and from the demo.

with SandboxProcess() as sandbox:
    client = stripe.StripeClient("sk_test_any", base_addresses={"api": sandbox.url, ...})
    sandbox.fault(kind="error_500_after", path="/v1/billing/meter_events")
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parents[2]

START_SECONDS_MAX = 120.0
START_ATTEMPTS_MAX = 3
STOP_SECONDS_MAX = 10.0
ANSWER_SECONDS_MAX = 60.0


def free_port() -> int:
    """Returns a TCP port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class SandboxProcess:
    """One sandbox in its own process; a context manager."""

    def __init__(
        self,
        *,
        port: int | None = None,
        db: str = ":memory:",
        settings: dict[str, Any] | None = None,
        log: Path | None = None,
        clock_offset_file: Path | None = None,
    ) -> None:
        self._port_was_given = port is not None
        self.port = port or free_port()
        self.db = db
        self.settings = settings or {}
        self.log = log
        self.clock_offset_file = clock_offset_file
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Returns the base address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_addresses(self) -> dict[str, str]:
        """Returns what `stripe.StripeClient(base_addresses=...)` takes."""
        return {"api": self.url, "meter_events": self.url, "connect": self.url, "files": self.url}

    def start(self) -> Self:
        """Starts the process and waits until it answers; raises RuntimeError otherwise.

        A port that somebody else took in the meantime is replaced, unless it was asked for.
        """
        for _ in range(START_ATTEMPTS_MAX):
            self._spawn()
            if self._answers():
                return self
            if self._port_was_given:
                break
            self.port = free_port()
        raise RuntimeError(f"the sandbox did not start; its log: {self.log or 'none was kept'}")

    def _spawn(self) -> None:
        """Starts the process."""
        command = [sys.executable, "-m", "billing.stripe_sandbox"]
        command += ["--port", str(self.port), "--db", self.db]
        for name, value in self.settings.items():
            command += ["--set", f"{name}={json.dumps(value)}"]
        if self.clock_offset_file is not None:
            command += ["--clock-offset-file", str(self.clock_offset_file)]
        with open(self.log or os.devnull, "ab") as output:
            self.process = subprocess.Popen(  # noqa: S603
                command, cwd=ROOT, stdout=output, stderr=output
            )

    def _answers(self) -> bool:
        """Waits until the process answers; False when it ended or stays silent."""
        assert self.process is not None, "not started"
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.control("GET", "health")
            except OSError:
                time.sleep(0.02)
            else:
                return True
        self.kill()
        return False

    def stop(self) -> None:
        """Ends the process by SIGTERM, by SIGKILL when that does not help."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def kill(self) -> None:
        """Ends the process by SIGKILL; its SQLite file keeps what was answered."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(STOP_SECONDS_MAX)
            self.process = None

    def __enter__(self) -> Self:
        """Starts the process."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the process."""
        self.stop()

    def control(
        self, method: str, name: str, body: dict[str, Any] | None = None, **query: Any
    ) -> Any:
        """Returns the answer of `METHOD /_sandbox/<name>`; ValueError tells a refusal."""
        address = f"{self.url}/_sandbox/{name}"
        if query:
            address += f"?{urlencode(query)}"
        request = urllib.request.Request(  # noqa: S310  (always our own http address)
            address,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS_MAX) as answer:  # noqa: S310
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise ValueError(f"{error.code}: {error.read().decode()}") from error

    def reset(self) -> None:
        """Empties the sandbox: objects, events, faults, settings, clock."""
        self.control("POST", "reset", {})
        if self.settings:
            self.configure(**self.settings)

    def configure(self, **settings: Any) -> None:
        """Changes settings, for example `configure(summary_lag_seconds=600)`."""
        self.control("POST", "settings", settings)

    def fault(self, kind: str, **fields: Any) -> str:
        """Adds a scripted fault and returns its id; `count=None` is for ever."""
        answer = self.control("POST", "faults", {"kind": kind, **fields})
        return str(answer["faults"][0]["id"])

    def clear_faults(self) -> None:
        """Takes all faults out."""
        self.control("DELETE", "faults")

    def now(self) -> float:
        """Returns the sandbox's time in seconds since 1970."""
        return float(self.control("GET", "clock")["now"])

    def set_clock(self, moment: float, *, freeze: bool | None = None) -> None:
        """Jumps to a moment; `freeze=True` stops the clock there."""
        body: dict[str, Any] = {"now": moment}
        if freeze is not None:
            body["freeze"] = freeze
        self.control("POST", "clock", body)

    def advance(self, seconds: float) -> None:
        """Moves the clock forward; what becomes due has happened when this returns."""
        self.control("POST", "clock", {"advance_seconds": seconds})

    def journal(self, **filters: Any) -> list[dict[str, Any]]:
        """Returns all journal lines that fit, oldest first."""
        entries: list[dict[str, Any]] = []
        while True:
            after = entries[-1]["seq"] if entries else 0
            found = self.control("GET", "journal", after=after, limit=10_000, **filters)["entries"]
            if not found:
                return entries
            entries.extend(found)

    def totals(self, **filters: Any) -> list[dict[str, Any]]:
        """Returns exact sums by world, meter, customer and UTC day."""
        found: list[dict[str, Any]] = self.control("GET", "totals", **filters)["totals"]
        return found

    def stats(self) -> dict[str, int]:
        """Returns the counters."""
        found: dict[str, int] = self.control("GET", "stats")
        return found
