"""Celery tasks of the ledger."""

from celery import shared_task

from ledger.models import Operation
from ledger.services import operations
from ledger.services.backfill import run_backfill
from stripemeter.lib import clock


@shared_task(name="ledger.backfill", time_limit=3_600, soft_time_limit=3_500)
def backfill() -> int:
    """Work off backfills that nobody works on; how many were taken."""
    taken = 0
    while operation := operations.claim(kind=Operation.Kind.BACKFILL, now=clock.now()):
        run_backfill(operation, clock=clock.now)
        taken += 1
    return taken
