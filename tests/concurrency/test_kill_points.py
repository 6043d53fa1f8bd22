"""SIGKILL at every named point of ingest's followers: nothing is lost, nothing counted twice."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from counters.models import Adjustment, Counter, LateEvent
from counters.services import replay, set_calendar
from counters.services.fold import fold_everything
from counters.services.verify import verify_counters
from ledger.files import Record
from ledger.models import Event, Operation, PendingBatch
from ledger.services import backfill, operations
from stripemeter.lib import clock
from stripemeter.tenancy.models import Tenant
from tests.builders.ledger import make_event, store
from tests.builders.tenancy import make_tenant
from tests.support.environment import ROOT

POINTS = {
    "ingest": ["ingest.before_store", "ingest.stored"],
    "fold": ["fold.claimed", "fold.set_aside", "fold.before_commit"],
    "backfill": ["backfill.stored", "backfill.before_commit", "backfill.step_done"],
    "replay": ["rebuild.cleared", "replay.rebuilt", "replay.before_commit", "replay.step_done"],
    "recompute": ["recompute.cleared", "recompute.before_commit"],
    "recut": ["recut.cleared"],
}
CASES = [(work, point) for work, points in POINTS.items() for point in points]

#: What the victim does; run in a process of its own, so that the kill is a real one.
_VICTIM = """
import os, django
django.setup()
from datetime import UTC, datetime
from stripemeter.lib import clock
from stripemeter.tenancy.models import Tenant
tenant = Tenant.objects.get(key="acme")
work = os.environ["VICTIM_WORK"]
if work == "ingest":
    from tests.builders.ledger import make_event, store
    store(tenant, make_event(1, ts=datetime(2026, 1, 1, tzinfo=UTC), idempotencyKey="asked"),
          now=clock.now())
elif work == "fold":
    from counters.services.fold import fold_everything
    fold_everything(now=clock.now())
elif work in ("backfill", "replay"):
    from counters import tasks as counter_tasks
    from ledger import tasks as ledger_tasks
    (ledger_tasks.backfill if work == "backfill" else counter_tasks.replay)()
elif work == "recompute":
    from counters.services.recompute import recompute
    from counters.services.verify import _scope
    recompute(_scope(tenant, None, None))
else:
    from counters.services import set_calendar
    set_calendar(tenant_id=tenant.pk, customer_ref="cus_1", anchor=clock.now(),
                 interval="week", actor="victim", now=clock.now())
"""


def _run_victim(work: str, point: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _VICTIM],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "stripemeter.settings",
            "STRIPEMETER_FAULT_POINTS": f"{point}=kill",
            "VICTIM_WORK": work,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr[-2_000:]
    return done.returncode


def _prepare(tenant: Tenant, work: str) -> int:
    """Events of every kind, and work to do; the number of events."""
    now = clock.now()
    for number in range(6):
        ts = now - timedelta(minutes=number)
        store(tenant, make_event(1, ts=ts, idempotencyKey=f"a{number}"), now=now)
    fold_everything(now=now)
    late = now - timedelta(hours=49)
    store(tenant, make_event(1, ts=late, idempotencyKey="late"), now=now)
    store(tenant, make_event(1, ts=now, idempotencyKey="fresh"), now=now)
    if work != "fold":
        fold_everything(now=now)
    if work == "backfill":
        rows = [
            Record(n, make_event(1, ts=now - timedelta(seconds=n), idempotencyKey=f"b{n}"))
            for n in range(1, 5)
        ]
        backfill.create_backfill(
            tenant_id=tenant.pk,
            tenant_key=tenant.key,
            rows=iter(rows),
            declared=backfill.Declared(
                (now - timedelta(days=1)).date(), now.date(), "test", "events"
            ),
            actor="t",
            now=now,
        )
        return 12
    if work == "ingest":
        return 9
    if work == "replay":
        Counter.objects.update(sum=0)
        replay.start_operation(
            replay.Window(tenant.pk, (), now - timedelta(days=400), now),
            applied=True,
            actor="t",
            now=now,
        )
    return 8


def _finish(tenant: Tenant, work: str) -> None:
    """What the next worker does, once leases have run out."""
    if work == "ingest":
        # The client never got its answer: it asks again with the same key.
        again = make_event(1, ts=datetime(2026, 1, 1, tzinfo=UTC), idempotencyKey="asked")
        outcome = store(tenant, again, now=clock.now())
        assert outcome.accepted + outcome.duplicates == 1
    later = clock.now() + operations.LEASE + timedelta(seconds=1)
    if work in {"backfill", "replay"}:
        run: Any = backfill.run_backfill if work == "backfill" else replay.run_operation
        claimed = operations.claim(kind=work, now=later)
        if claimed is not None:
            run(claimed, clock=lambda: later)
        assert set(Operation.objects.values_list("status", flat=True)) == {"completed"}
    if work == "recut":
        set_calendar(
            tenant_id=tenant.pk, customer_ref="cus_1", anchor=clock.now(), interval="week",
            actor="t", now=clock.now(),
        )  # fmt: skip
    fold_everything(now=clock.now())


@pytest.mark.parametrize(("work", "point"), CASES, ids=[point for _, point in CASES])
def test_a_kill_at_the_point_loses_and_doubles_nothing(
    transactional_db: None, work: str, point: str
) -> None:
    tenant = make_tenant()
    expected = _prepare(tenant, work)
    assert _run_victim(work, point) == -signal.SIGKILL, f"{point} was never passed"
    _finish(tenant, work)
    assert Event.objects.count() == expected
    assert not PendingBatch.objects.exists()
    assert verify_counters(now=clock.now()).count == 0
    total = sum(row.sum + row.adjusted for row in Counter.objects.all())
    assert total == expected
    counted = sum(row.event_count for row in Counter.objects.all())
    assert counted + LateEvent.objects.count() == expected
    assert Adjustment.objects.count() <= 1
    if work == "backfill":
        counts = backfill.counts_of(Operation.objects.get())
        assert (counts["accepted"], counts["duplicates"]) == (4, 0)
