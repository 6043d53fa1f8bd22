"""Celery tasks of billing: each fetches the time and calls one service.

A message is a hint. What there is to do stands in PostgreSQL, so a lost message costs one
tick and a doubled one finds nothing left.
"""

from celery import shared_task
from django.conf import settings
from kombu.exceptions import OperationalError

from billing.services import (
    alert_runs,
    deliveries,
    gate,
    grace,
    inbox,
    mirroring,
    notices,
    running,
    settling,
    simulations,
    whatif,
)
from billing.stripe.client import KeyMissing, KeyOfWrongMode
from billing.stripe.errors import StripeRefused, StripeUnavailable
from stripemeter.lib import clock
from stripemeter.lib.logs import get_logger

log = get_logger(__name__)

PUSH_SECONDS_MAX = 50.0


@shared_task(name="billing.push", soft_time_limit=170, time_limit=180)
def push() -> dict[str, int]:
    """Push until nothing is due or the slot ends; any number of these may run at once."""
    seconds = min(PUSH_SECONDS_MAX, max(5.0, settings.PUSH_INTERVAL_SECONDS * 0.8))
    return running.run_pushes(clock=clock.now, seconds=seconds).outcomes


@shared_task(name="billing.settle_pushes", soft_time_limit=290, time_limit=300)
def settle_pushes() -> int:
    """Look unknown outcomes up in Stripe's summaries; read back what a restore forgot."""
    now = clock.now()
    try:
        gate.rederive(now=now)
    except (StripeUnavailable, StripeRefused, KeyMissing, KeyOfWrongMode) as error:
        log.warning("push.rederive_failed", error=str(error))
    return settling.settle_unknown(now=now)


@shared_task(name="billing.watch_grace", soft_time_limit=110, time_limit=120)
def watch_grace() -> int:
    """Tell of ended periods that still lack usage at Stripe when half their grace is over."""
    return grace.alert_at_half_time(now=clock.now())


@shared_task(name="billing.process_webhooks", soft_time_limit=110, time_limit=120)
def process_webhooks() -> int:
    """Process the events that wait in the inbox."""
    return inbox.process_inbox(now=clock.now())


@shared_task(name="billing.poll_events", soft_time_limit=290, time_limit=300)
def poll_events() -> int:
    """Fetch the events that no webhook brought."""
    return inbox.poll_events(now=clock.now())


@shared_task(name="billing.refresh_prices", soft_time_limit=290, time_limit=300)
def refresh_prices() -> int:
    """Read the prices that active mappings name; a changed one becomes a new version."""
    return mirroring.refresh_prices(now=clock.now())


@shared_task(name="billing.simulate", soft_time_limit=110, time_limit=120)
def simulate() -> int:
    """Compute the simulation runs that wait."""
    return simulations.compute_pending(now=clock.now())


@shared_task(name="billing.what_if", soft_time_limit=1_750, time_limit=1_800)
def what_if() -> int:
    """Compute the what-if runs that wait."""
    return whatif.compute_pending(clock=clock.now)


def wake_what_if() -> bool:
    """Ask a worker to compute waiting what-if runs now."""
    return _wake(what_if)


@shared_task(name="billing.alerts", soft_time_limit=110, time_limit=120)
def alerts() -> int:
    """Let the alert rules speak about what has changed."""
    return alert_runs.evaluate_alerts(now=clock.now())


@shared_task(name=notices.DELIVER_TASK, soft_time_limit=290, time_limit=300)
def deliver_notices() -> int:
    """Send the webhooks, mails and Slack messages that are due."""
    return deliveries.deliver_due(now=clock.now())


def wake_alerts() -> bool:
    """Ask a worker to look at alert rules now."""
    return _wake(alerts)


def wake_simulations() -> bool:
    """Ask a worker to compute waiting simulation runs now."""
    return _wake(simulate)


def wake_prices() -> bool:
    """Ask a worker to read prices now, after a mapping has named one."""
    return _wake(refresh_prices)


def wake_push() -> bool:
    """Ask a worker to push now; False if the broker is away (beat will do it)."""
    return _wake(push)


def _wake(task: object) -> bool:
    try:
        task.apply_async(retry=False, ignore_result=True)  # type: ignore[attr-defined]
    except (OperationalError, OSError) as error:
        log.warning("task.wake_failed", task=getattr(task, "name", ""), error=str(error))
        return False
    return True
