"""Celery tasks of the counters: each fetches the time and calls one service."""

from celery import shared_task

from counters import locks
from counters.services.fold import fold_for
from counters.services.replay import run_operation
from counters.services.verify import verify_counters
from ledger.models import Operation
from ledger.services import operations
from stripemeter.lib import clock

#: Longer than the beat interval: slots overlap and the fold lock picks one folder per shard.
FOLD_SLOT_SECONDS = 10.0


@shared_task(name="counters.fold", time_limit=60, soft_time_limit=50)
def fold(seconds: float = FOLD_SLOT_SECONDS, shard: int = 0) -> int:
    """Fold pending batches of one shard until the slot ends."""
    if shard >= locks.FOLD_SHARDS:
        return 0
    return fold_for(seconds, clock=clock.now, shard=shard)


@shared_task(name="counters.replay", time_limit=3_600, soft_time_limit=3_500)
def replay() -> int:
    """Work off long replays that nobody works on; how many were taken."""
    taken = 0
    while operation := operations.claim(kind=Operation.Kind.REPLAY, now=clock.now()):
        run_operation(operation, clock=clock.now)
        taken += 1
    return taken


@shared_task(name="counters.verify", time_limit=3_600, soft_time_limit=3_500)
def verify(sample: int = 0) -> int:
    """Compare counters with the ledger (all, or ``sample`` of each tenant); how many differ."""
    return verify_counters(sample=sample or None, now=clock.now()).count
