"""Wakes the alert rules up after a fold: at most once a second, and only if there are any."""

import time

from celery import current_app
from django.db import DatabaseError
from kombu.exceptions import KombuError

from billing.models import AlertRule
from stripemeter.lib.logs import get_logger

log = get_logger(__name__)
SECONDS_BETWEEN, SECONDS_KNOWN = 1.0, 10.0


class _Waker:
    def __init__(self) -> None:
        self.woken, self.asked, self.any_rules = 0.0, 0.0, False

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self.woken < SECONDS_BETWEEN or not self._has_rules(now):
            return
        self.woken = now
        try:
            # What waits longer than beat's interval has been overtaken by it.
            current_app.send_task("billing.alerts", retry=False, ignore_result=True, expires=15)
        except (KombuError, OSError) as error:
            log.warning("wakeup.lost", task="billing.alerts", error=str(error))

    def _has_rules(self, now: float) -> bool:
        if now - self.asked >= SECONDS_KNOWN:
            self.asked = now
            try:
                rules = AlertRule.objects.filter(enabled=True, deleted_at__isnull=True)
                self.any_rules = rules.exists()
            except DatabaseError as error:
                log.warning("alerts.unknown", error=str(error))
        return self.any_rules


alerts_after_fold = _Waker()
