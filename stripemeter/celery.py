"""The Celery app and the whole beat schedule, with the reason beside each line.

Messages are wake-up hints only: what there is to do stands in PostgreSQL, so a lost
message costs one tick and a doubled one finds nothing left.
"""

import os
from typing import Any

from celery import Celery
from celery.schedules import crontab
from celery.signals import before_task_publish, task_postrun, task_prerun
from django.conf import settings

from stripemeter.lib import requestid

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "stripemeter.settings")

app = Celery("stripemeter")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

app.conf.beat_schedule = {
    # A fold slot lasts longer than this interval, so that one folder is always at work.
    "counters-fold": {"task": "counters.fold", "schedule": 5.0},
    # Finds backfills whose wake-up was lost or whose worker died; otherwise finds nothing.
    "ledger-backfill": {"task": "ledger.backfill", "schedule": 15.0, "options": {"expires": 15}},
    # Events are open to tampering until they are sealed; a run that finds nothing is cheap.
    "ledger-seal": {"task": "ledger.seal", "schedule": 300.0, "options": {"expires": 300}},
    # Long replays whose wake-up was lost or whose worker died; otherwise finds nothing.
    "counters-replay": {"task": "counters.replay", "schedule": 15.0, "options": {"expires": 15}},
    # Once a night, when load is low: every counter against the ledger.
    "counters-verify": {"task": "counters.verify", "schedule": crontab(hour=3, minute=10)},
    # Deltas go out at this interval; a run that finds nothing costs one query.
    "billing-push": {
        "task": "billing.push",
        "schedule": float(settings.PUSH_INTERVAL_SECONDS),
        "options": {"expires": settings.PUSH_INTERVAL_SECONDS},
    },
    # Webhooks are stored and answered at once; their effect follows within this time.
    "billing-webhooks": {
        "task": "billing.process_webhooks",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
    # Finds the events whose webhook never came.
    "billing-poll-events": {"task": "billing.poll_events", "schedule": 3600.0},
    # Projections price with the prices as last read; a new mapping also asks for it at once.
    "billing-prices": {"task": "billing.refresh_prices", "schedule": 300.0},
    # Simulation runs whose wake-up was lost; otherwise finds nothing.
    "billing-simulate": {"task": "billing.simulate", "schedule": 15.0, "options": {"expires": 15}},
    # Grace is an hour by default: half of it is noticed within five minutes.
    "billing-grace": {"task": "billing.watch_grace", "schedule": 300.0},
    # Large what-if runs whose wake-up was lost or whose worker died; otherwise finds nothing.
    "billing-what-if": {"task": "billing.what_if", "schedule": 30.0, "options": {"expires": 30}},
    # A fold wakes it at once; this finds what time alone changes, and lost wake-ups.
    "billing-alerts": {"task": "billing.alerts", "schedule": 15.0, "options": {"expires": 15}},
    # Retries of webhooks and mails that are due; new ones wake a worker themselves.
    "billing-notices": {
        "task": "billing.deliver_notices",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
    # Summaries lag by minutes, so looking unknown outcomes up more often tells nothing new.
    "billing-settle": {"task": "billing.settle_pushes", "schedule": 300.0},
    # Runs are queued rows: a tick finds them when the message of the request was lost.
    "reconciliation-tick": {"task": "reconciliation.tick", "schedule": 15.0},
    # Looks for tenants whose last run is older than RECONCILIATION_INTERVAL_SECONDS.
    "reconciliation-schedule": {"task": "reconciliation.schedule", "schedule": 60.0},
    # Readiness calls workers dead after 30 s without this; a stale tick proves nothing.
    "worker-heartbeat": {
        "task": "shell.beat_heart",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
}

#: The message header that carries the id of the request that asked for the work.
REQUEST_ID_HEADER = "stripemeter_request_id"


@before_task_publish.connect
def _send_request_id(headers: dict[str, Any] | None = None, **_: Any) -> None:
    if headers is not None and requestid.current():
        headers[REQUEST_ID_HEADER] = requestid.current()


@task_prerun.connect
def _take_request_id(task: Any = None, task_id: str = "", **_: Any) -> None:
    """Log lines of a task name the request that asked for it, or else the task."""
    requestid.begin(task.request.get(REQUEST_ID_HEADER) or f"task_{task_id}")


@task_postrun.connect
def _drop_request_id(**_: Any) -> None:
    requestid.end()
