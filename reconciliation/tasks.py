"""Celery tasks of reconciliation: each fetches the time and calls services.

What there is to do stands in tables; a message only wakes a worker earlier.
"""

import kombu.exceptions
from celery import shared_task

from reconciliation.services import exports, runs, verifying
from stripemeter.lib import clock
from stripemeter.lib.logs import get_logger

log = get_logger(__name__)

#: Runs that one tick carries out; the rest waits for the next one.
RUNS_PER_TICK = 20


@shared_task(name="reconciliation.tick", time_limit=1_800, soft_time_limit=1_700)
def tick() -> int:
    """Carry out what is queued or was left by a dead worker; read plans back; write exports."""
    done = 0
    while done < RUNS_PER_TICK:
        run = runs.claim(now=clock.now())
        if run is None:
            break
        runs.execute(run, clock=clock.now)
        done += 1
    verifying.verify_applied(clock=clock.now)
    while (export := exports.claim(now=clock.now())) is not None:
        exports.execute(export, clock=clock.now)
    return done


@shared_task(name="reconciliation.schedule", soft_time_limit=110, time_limit=120)
def schedule() -> int:
    """Queue the regular runs and drop lines that nobody needs any more."""
    now = clock.now()
    queued = runs.schedule_runs(now=now)
    runs.prune_lines(now=now)
    exports.expire(now=now)
    return queued


def wake() -> None:
    """Ask a worker to look now; without a broker the next tick does."""
    try:
        tick.apply_async(retry=False, ignore_result=True)
    except (kombu.exceptions.OperationalError, OSError) as error:
        log.warning("reconciliation.not_woken", error=str(error).splitlines()[0])
