"""Wakes a worker up. A lost wake-up costs one beat interval: the work stands in PostgreSQL."""

from typing import Any

from django.db import transaction
from kombu.exceptions import KombuError

from stripemeter.lib.logs import get_logger

log = get_logger(__name__)


def wake(task: Any) -> None:
    """Send ``task`` (a Celery task without arguments) once the transaction has committed."""
    transaction.on_commit(lambda: _send(task))


def _send(task: Any) -> None:
    try:
        task.apply_async(retry=False, ignore_result=True)
    except (KombuError, OSError) as error:
        log.warning("wakeup.lost", task=task.name, error=str(error))
