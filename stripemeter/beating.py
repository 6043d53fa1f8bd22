"""The beat scheduler with a heart: each turn of its loop leaves a sign of life."""

import time
from typing import Any

from django.db import DatabaseError, close_old_connections
from django_celery_beat.schedulers import DatabaseScheduler

from stripemeter.lib import clock
from stripemeter.lib.logs import get_logger
from stripemeter.models import beat_heart

log = get_logger(__name__)

BEAT_EVERY_SECONDS = 5.0


class BeatingScheduler(DatabaseScheduler):  # type: ignore[misc]  # ships no types
    """`DatabaseScheduler` that beats at most every five seconds, and outlives a lost database."""

    _beaten = 0.0
    # The loop may otherwise sleep for minutes between two signs of life.
    max_interval = BEAT_EVERY_SECONDS

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        """One turn of the loop."""
        wait = super().tick(*args, **kwargs)
        if time.monotonic() - self._beaten >= BEAT_EVERY_SECONDS:
            self._beaten = time.monotonic()
            try:
                close_old_connections()
                beat_heart("beat", now=clock.now())
            except DatabaseError as error:
                log.warning("heartbeat.failed", error=str(error).splitlines()[0])
        return min(wait, BEAT_EVERY_SECONDS)
