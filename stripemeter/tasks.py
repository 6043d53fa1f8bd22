"""Tasks of the shell: the worker's sign of life."""

from celery import shared_task

from stripemeter.lib import clock
from stripemeter.models import beat_heart


@shared_task(name="shell.beat_heart", time_limit=10, soft_time_limit=5)
def beat_worker_heart() -> None:
    """Prove that the whole chain works: beat scheduled it, Redis carried it, a worker ran it."""
    beat_heart("worker", now=clock.now())
