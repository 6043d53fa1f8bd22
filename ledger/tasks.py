"""Celery tasks of the ledger."""

from celery import shared_task
from django.conf import settings

from ledger.models import Operation
from ledger.services import operations, seals
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


@shared_task(name="ledger.seal", time_limit=600, soft_time_limit=540)
def seal() -> int:
    """Seal what is decided and note the heads outside the database; the seals made."""
    now = clock.now()
    made = seals.seal_ledger(now=now)
    if settings.SEAL_ANCHOR_FILE:
        seals.anchor(settings.SEAL_ANCHOR_FILE, now=now)
    return made
