"""Zero units billed twice, zero units unbilled at rest, over random histories of real processes.

``CHAOS_PUSH_HISTORIES`` says how many (2; 0 plays none), ``CHAOS_SEED`` where the seeds begin; a
failing seed is printed and replays the same choices.
"""

import os
import time
from collections import Counter as Tally
from pathlib import Path
from typing import Any

import pytest

from billing.stripe_sandbox.process import SandboxProcess
from stripemeter.lib import clock
from tests.builders.billing import World, make_world
from tests.chaos.history import History, Pool, Stage

HISTORIES = int(os.environ.get("CHAOS_PUSH_HISTORIES", "2"))
SEED = int(os.environ.get("CHAOS_SEED", "20261122"))


@pytest.fixture
def stage(
    transactional_db: None, settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Any:
    """A Stripe and workers that share a clock file with this process."""
    offset_file = tmp_path / "clock"
    offset_file.write_text("0", encoding="ascii")
    database = str(tmp_path / "stripe.sqlite3")
    with SandboxProcess(db=database, clock_offset_file=offset_file) as sandbox:
        env = {
            "CLOCK_OFFSET_FILE": str(offset_file),
            "STRIPE_API_BASE": sandbox.url,
            "STRIPE_METER_EVENTS_BASE": sandbox.url,
            "STRIPE_BULK_FROM": "6",
            "STRIPE_PUSH_THREADS": "4",
        }
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        for name in ("STRIPE_API_BASE", "STRIPE_METER_EVENTS_BASE", "STRIPE_API_HOST"):
            setattr(settings, name, sandbox.url)
        monkeypatch.setattr(World, "move", lambda self, **_: setattr(self, "now", clock.now()))
        world = make_world(sandbox)
        world.mapping()
        listen(sandbox)
        pool = Pool(env, tmp_path / "workers.log")
        yield Stage(world, offset_file, pool)
        pool.close()


def listen(sandbox: SandboxProcess) -> None:
    """Stripe makes error reports only for who listens."""
    from billing.stripe.client import client_for

    client_for("live").v2.core.event_destinations.create(
        {
            "name": "errors",
            "type": "webhook_endpoint",
            "event_payload": "thin",
            "enabled_events": ["v1.billing.meter.error_report_triggered"],
            "webhook_endpoint": {"url": "http://127.0.0.1:9/none"},
        }
    )


@pytest.mark.skipif(HISTORIES == 0, reason="CHAOS_PUSH_HISTORIES says how many to play")
def test_random_histories_end_with_every_unit_billed_once(stage, capsys):
    actions: Tally[str] = Tally()
    units = pushes = attempts = asked = 0
    started = time.monotonic()
    for seed in range(SEED, SEED + HISTORIES):
        told = History(stage, seed).play()
        assert not told.problems, f"seed {seed}: {told.problems} after {dict(told.actions)}"
        actions += told.actions
        units += int(told.units)
        pushes += told.pushes
        attempts += told.attempts
        asked += told.asked
    with capsys.disabled():
        print(
            f"\n{HISTORIES} histories from seed {SEED} in {time.monotonic() - started:.0f} s:"
            f" {units} units, {pushes} pushes, {attempts} attempts, {asked} asked of a person,"
            f" 0 billed twice, 0 unbilled; {dict(actions)}"
        )
