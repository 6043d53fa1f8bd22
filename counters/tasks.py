"""Celery tasks of the counters: each fetches the time and calls one service."""

from celery import shared_task

from counters import locks
from counters.services.fold import fold_for
from stripemeter.lib import clock

#: Longer than the beat interval: slots overlap and the fold lock picks one folder per shard.
FOLD_SLOT_SECONDS = 10.0


@shared_task(name="counters.fold", time_limit=60, soft_time_limit=50)
def fold(seconds: float = FOLD_SLOT_SECONDS, shard: int = 0) -> int:
    """Fold pending batches of one shard until the slot ends."""
    if shard >= locks.FOLD_SHARDS:
        return 0
    return fold_for(seconds, clock=clock.now, shard=shard)
