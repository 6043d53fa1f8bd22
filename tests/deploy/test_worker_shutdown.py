"""SIGTERM ends worker and beat gracefully: begun tasks end, others wait, totals are exact."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import Sum

from billing.models import Push
from billing.stripe_sandbox.process import SandboxProcess
from counters.models import Counter
from ledger.models import PendingBatch
from stripemeter.celery import app
from stripemeter.lib import clock, redisclient
from stripemeter.models import Heartbeat
from stripemeter.runtime.processes import wait_until
from tests.builders.billing import World, make_world
from tests.support.processes import ServerProcess, celery

pytestmark = pytest.mark.xdist_group("shutdown")

#: What docker-compose.yml gives a worker between SIGTERM and SIGKILL.
GRACE_SECONDS = 90
WORKER = celery("worker", "--concurrency", "2", "-l", "WARNING", "--without-gossip")


@pytest.fixture
def world(transactional_db: None, sandbox: SandboxProcess) -> World:
    """A mapped metric, at the time of the processes; no hint of another test is left."""
    redisclient.client().flushdb()
    world = make_world(sandbox)
    world.now = clock.now()
    world.move()
    world.mapping()
    return world


def waiting() -> int:
    """Messages that no worker has begun."""
    return int(redisclient.client().llen("celery"))


def ended_by_itself(process: ServerProcess, *, within_s: float) -> bool:
    """SIGTERM to the main process alone, as a container's runtime sends it."""
    assert process._child is not None
    process._child.terminate()
    return wait_until(lambda: not process.running, timeout_s=within_s)


def test_a_worker_ends_what_it_has_begun_and_leaves_the_rest_to_the_next(
    world: World, start_process: Callable[..., ServerProcess]
) -> None:
    used = {"ts": world.now - timedelta(seconds=30)}
    for quantity in range(1, 11):
        world.use(quantity, **used)
    slow = "fold.before_commit=sleep:1@1,push.after_call=sleep:4@1"
    worker = start_process(WORKER, env={"STRIPEMETER_FAULT_POINTS": slow})
    app.send_task("counters.fold", kwargs={"seconds": 8})
    assert wait_until(lambda: not PendingBatch.objects.exists(), timeout_s=400), worker.output()
    app.send_task("billing.push")
    # Stripe has it, we do not know yet: this push is in hand, and so is the slot of folding.
    assert wait_until(lambda: world.at_stripe() == 55, timeout_s=400), worker.output()
    for name in ("counters.fold", "billing.push"):
        app.send_task(name)
    world.use(100, **used)

    assert ended_by_itself(worker, within_s=GRACE_SECONDS), worker.output()
    assert worker._child is not None
    assert (worker._child.returncode, "Traceback" in worker.output()) == (0, False)
    # No push is torn: what was begun before the signal has its outcome written.
    assert {push.state for push in Push.objects.all()} == {"acknowledged"}
    assert world.at_stripe() in {55, 155}

    follower = start_process(WORKER)
    assert wait_until(lambda: not PendingBatch.objects.exists(), timeout_s=400), follower.output()

    def all_told() -> bool:
        if waiting() == 0:
            app.send_task("billing.push")
        return world.at_stripe() == 155

    assert wait_until(all_told, timeout_s=400), follower.output()
    assert ended_by_itself(follower, within_s=GRACE_SECONDS), follower.output()
    assert Counter.objects.aggregate(total=Sum("sum"))["total"] == 155
    sent = Push.objects.filter(state="acknowledged").aggregate(total=Sum("value"))["total"]
    assert sent == Decimal(155)
    assert {push.state for push in Push.objects.all()} == {"acknowledged"}


def test_beat_ends_at_once_and_goes_on_where_it_was(
    world: World, start_process: Callable[..., ServerProcess]
) -> None:
    def beaten() -> Any:
        return Heartbeat.objects.filter(component="beat").first()

    beat = start_process(celery("beat", "-l", "WARNING"))
    assert wait_until(lambda: beaten() is not None and waiting() > 0, timeout_s=400), beat.output()
    assert ended_by_itself(beat, within_s=GRACE_SECONDS), beat.output()
    assert beat._child is not None
    assert (beat._child.returncode, "Traceback" in beat.output()) == (0, False)
    last = beaten().beaten_at
    redisclient.client().flushdb()
    beat.start()
    assert wait_until(lambda: beaten().beaten_at > last and waiting() > 0, timeout_s=400)
    assert ended_by_itself(beat, within_s=GRACE_SECONDS), beat.output()
