"""Random histories of pushing over real processes; Stripe's journal is the judge.

The oracle is the runner's own tally of what it had counted, per customer. A history is a
seed: it decides usage, faults, kills, stops, clock and outages.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter as Tally
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.db import connection

from billing.models import Push, PushCursor
from billing.models.pushes import OPEN_STATES
from billing.services import inbox, review
from billing.services.inbox import Received
from billing.stripe.client import client_for
from stripemeter.lib import clock, redisclient
from tests.builders.billing import World, use

ROOT = Path(__file__).resolve().parents[2]
EVENTS = "/v1/billing/meter_events"
STREAM = "/v2/billing/meter_event_stream"
FAULTS = (
    "error_500_before", "error_500_after", "error_503", "drop_before", "drop_after",
    "truncated", "html", "empty", "wrong_id", "rate_limit", "lock_timeout", "conflict",
)  # fmt: skip
OUTAGES = ("drop_before", "drop_after", "error_503", "error_500_after")
CUSTOMERS = 4
WORKERS = 2
ACTIONS = 14
#: What a person is asked at the end, at most this often per history.
ROUNDS_MAX = 90


class Pool:
    """Forked workers: new ones on demand, killed and stopped by signal."""

    def __init__(self, env: dict[str, str], log: Path) -> None:
        self._log = log.open("ab")
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.workers"],
            cwd=ROOT, env={**os.environ, **env}, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self._log, start_new_session=True,
        )  # fmt: skip
        self.pids: list[int] = []

    def fork(self) -> int:
        """One more worker; its pid."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(b"fork\n")
        self._parent.stdin.flush()
        pid = int(self._parent.stdout.readline())
        self.pids.append(pid)
        return pid

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to one of ours; one that is gone is none."""
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        if number == signal.SIGKILL and pid in self.pids:
            self.pids.remove(pid)

    def close(self) -> None:
        """Kill everything."""
        for pid in list(self.pids):
            self.signal(pid, signal.SIGKILL)
        self._parent.kill()
        self._parent.communicate()
        self._log.close()


@dataclass
class Told:
    """What one history did and found."""

    seed: int
    actions: Tally[str] = field(default_factory=Tally)
    units: Decimal = Decimal(0)
    pushes: int = 0
    attempts: int = 0
    asked: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass
class Stage:
    """What all histories of a run share: one world, its clock file and its workers."""

    world: World
    offset_file: Path
    pool: Pool
    offset: int = 0
    histories: int = 0

    def move(self, seconds: int) -> None:
        """Time passes for every process, Stripe's too; it never runs back."""
        self.offset += seconds
        scratch = self.offset_file.with_suffix(".new")
        scratch.write_text(str(self.offset), encoding="ascii")
        scratch.replace(self.offset_file)
        self.world.now = clock.now()


class History:
    """One seed's story."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage, self.world = stage, stage.world
        self.random = random.Random(seed)
        self.told = Told(seed)
        self.used: dict[str, Decimal] = {}
        self.stopped: list[int] = []
        stage.histories += 1
        self.refs = [f"h{stage.histories}c{number}" for number in range(CUSTOMERS)]

    def play(self) -> Told:
        """Everything, to the verdict."""
        for ref in self.refs:
            self.world.customer(ref)
            self.used[ref] = Decimal(0)
        while len(self.stage.pool.pids) < WORKERS:
            self.stage.pool.fork()
        for _ in range(ACTIONS):
            name = self.random.choice(
                ["use", "use", "use", "fault", "fault", "kill", "stop", "flush", "wait", "outage",
                 "lag", "reject", "storm"]
            )  # fmt: skip
            self.told.actions[name] += 1
            getattr(self, f"_{name}")()
            self._watch()
        self._quiesce()
        self._judge()
        return self.told

    # --- actions ---------------------------------------------------------------------

    def _use(self) -> None:
        for _ in range(self.random.randint(1, 5)):
            ref = self.random.choice(self.refs)
            quantity = self.random.randint(1, 50)
            now = clock.now()
            use(self.world.acme, quantity, customer=ref, ts=now, now=now)
            self.used[ref] += quantity
            self.told.units += quantity
        time.sleep(self.random.uniform(0, 0.15))

    def _fault(self) -> None:
        kind = self.random.choice(FAULTS)
        path = self.random.choice([EVENTS, EVENTS, STREAM])
        skip = self.random.randint(0, 2)
        self.world.sandbox.fault(kind, path=path, count=self.random.randint(1, 4), skip=skip)

    def _kill(self) -> None:
        victim = self.random.choice(self.stage.pool.pids)
        self.stage.pool.signal(victim, signal.SIGKILL)
        if victim in self.stopped:
            self.stopped.remove(victim)
        self.stage.pool.fork()

    def _stop(self) -> None:
        """A worker stands still past its lease, and wakes up as a zombie."""
        victim = self.random.choice(self.stage.pool.pids)
        self.stage.pool.signal(victim, signal.SIGSTOP)
        self.stopped.append(victim)
        self.stage.pool.fork()
        time.sleep(self.random.uniform(0.05, 0.3))
        self.stage.move(self.random.choice([30, 150, 900]))
        if self.random.random() < 0.7:
            self._wake()

    def _wake(self) -> None:
        for pid in self.stopped:
            self.stage.pool.signal(pid, signal.SIGCONT)
        self.stopped.clear()
        while len(self.stage.pool.pids) > WORKERS + 1:
            self.stage.pool.signal(self.stage.pool.pids[0], signal.SIGKILL)

    def _flush(self) -> None:
        redisclient.client().flushall()

    def _wait(self) -> None:
        # Nobody is promised anything who stands still for an hour within a call (guarantees).
        self.stage.move(self.random.choice([1, 60, 700, 700 if self.stopped else 4_000]))
        time.sleep(self.random.uniform(0, 0.2))

    def _outage(self) -> None:
        """Thirty hours without an answer, whatever Stripe does with what it gets."""
        self._wake()
        kind = self.random.choice(OUTAGES)
        for path in (EVENTS, STREAM):
            self.world.sandbox.fault(kind, path=path, count=None)
        self._use()
        for _ in range(31):
            # An hour is what lies between the last try and Stripe's forgetting: a call may
            # see one step of the clock on its way, never two.
            deadline = time.monotonic() + 10
            while self._sending() and time.monotonic() < deadline:
                time.sleep(0.01)
            self.stage.move(3_500)
        self.world.sandbox.clear_faults()

    def _lag(self) -> None:
        self.world.sandbox.configure(summary_lag_seconds=self.random.choice([0, 300, 2_000]))

    def _reject(self) -> None:
        """Stripe takes an event and says later that it does not count."""
        self.world.sandbox.fault("async_reject", path=EVENTS, count=1)

    def _storm(self) -> None:
        self.world.sandbox.fault(
            "rate_limit", path=EVENTS, count=self.random.randint(5, 30),
            probability=0.7, seed=self.random.randrange(10**6),
        )  # fmt: skip

    # --- the end -----------------------------------------------------------------------

    def _watch(self) -> None:
        """I5, also in the middle: Stripe never has more than was counted."""
        for ref, total in self.used.items():
            found = self.world.at_stripe(ref)
            if found > total:
                self.told.problems.append(f"{ref}: Stripe has {found}, counted {total}, mid-way")

    def _quiesce(self) -> None:
        """Faults end; time passes until nothing moves by itself any more."""
        self.world.sandbox.clear_faults()
        self.world.sandbox.configure(summary_lag_seconds=0)
        self._wake()
        for number in range(ROUNDS_MAX):
            self._deliver_thin_events()
            # Workers get real time to act between two steps of the clock.
            deadline = time.monotonic() + 1.5
            while time.monotonic() < deadline and self._moving():
                time.sleep(0.05)
            # Stripe is asked first: a push may be planned and sent between two questions.
            if self._billed() and not self._unsettled():
                return
            if number > 10 and self._waiting():
                self._answer_for_a_person()
            self.stage.move(700 if number < 20 else 4 * 3_600)
        self.told.problems.append("not quiet after all rounds")

    def _pushes(self) -> Any:
        return Push.objects.filter(customer_ref__in=self.refs)

    def _sending(self) -> bool:
        return bool(self._pushes().filter(state="sending").exists())

    def _moving(self) -> bool:
        return bool(self._pushes().filter(state__in=["pending", "sending"]).exists())

    def _unsettled(self) -> bool:
        waiting = [*OPEN_STATES, "needs_review", "parked"]
        held = PushCursor.objects.filter(customer_ref__in=self.refs, held_at__isnull=False)
        return bool(self._pushes().filter(state__in=waiting).exists() or held.exists())

    def _billed(self) -> bool:
        return all(self.world.at_stripe(ref) == total for ref, total in self.used.items())

    def _waiting(self) -> bool:
        return bool(self._pushes().filter(state__in=["needs_review", "parked"]).exists())

    def _answer_for_a_person(self) -> None:
        """A person looks the identifier up at Stripe and says what is there."""
        applied = {
            line["identifier"] for line in self.world.calls() if line["outcome"] == "applied"
        }
        for push in self._pushes().filter(state__in=["needs_review", "parked"]):
            self.told.asked += 1
            review.settle_push(
                tenant_id=push.tenant_id, push_id=push.id,
                verdict="acknowledged" if push.identifier in applied else "rejected",
                note="looked up", actor="user:chaos", now=clock.now(),
            )  # fmt: skip

    def _deliver_thin_events(self) -> None:
        """Every error report, doubled and in any order, as a webhook would bring it."""
        client = client_for("live")
        found = list(client.v2.core.events.list({"limit": 100}).data)
        self.random.shuffle(found)
        for each in [*found, *found]:
            body = json.dumps(
                {"id": each.id, "object": "v2.core.event", "type": each.type, "livemode": True}
            )
            inbox.store(
                received=Received(
                    each.id, "thin", each.type, "", True, datetime.now(UTC), body.encode()
                ),
                now=clock.now(),
            )

    def _judge(self) -> None:
        problems = self.told.problems
        for ref, total in self.used.items():
            found = self.world.at_stripe(ref)
            if found != total:
                problems.append(f"{ref}: Stripe has {found}, counted {total}")
            acknowledged = sum(
                (
                    each.delta
                    for each in self._pushes().filter(customer_ref=ref, state="acknowledged")
                ),
                Decimal(0),
            )
            if acknowledged != total:
                problems.append(f"{ref}: acknowledged {acknowledged}, counted {total}")
        ours = {self.world.customers[self.world.acme.pk, ref, "live"] for ref in self.refs}
        lines = [line for line in self.world.calls() if line["customer"] in ours]
        times = Tally(line["identifier"] for line in lines if line["outcome"] == "applied")
        problems += [
            f"{name} counted {number} times" for name, number in times.items() if number > 1
        ]
        intents = {
            each.identifier: (each.value, int(each.stamped_at.timestamp()), each.stripe_customer_id)
            for each in self._pushes()
        }
        for line in lines:
            said = (Decimal(line["value"]), line["timestamp"], line["customer"])
            if intents.get(line["identifier"]) != said:
                problems.append(
                    f"{line['identifier']} said {said}, intended otherwise or not at all"
                )
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*), coalesce(sum(attempts), 0) FROM billing_push"
                " WHERE customer_ref = ANY(%s)",
                [self.refs],
            )
            self.told.pushes, self.told.attempts = cursor.fetchone()
