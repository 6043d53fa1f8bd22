"""Alerts and the counters: woken after a fold, at most once a second; shown beside usage."""

import time
from datetime import datetime
from typing import Any

from celery import current_app
from django.db import DatabaseError
from kombu.exceptions import KombuError

from billing.models import AlertRule
from billing.selectors_alerts import alerts_of_customer
from stripemeter.lib.logs import get_logger

log = get_logger(__name__)
SECONDS_BETWEEN, SECONDS_KNOWN = 1.0, 10.0


class _Waker:
    def __init__(self) -> None:
        self.woken, self.asked, self.any_rules = 0.0, 0.0, False

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self.woken < SECONDS_BETWEEN or not self.has_rules(now):
            return
        self.woken = now
        try:
            # What waits longer than beat's interval has been overtaken by it.
            current_app.send_task("billing.alerts", retry=False, ignore_result=True, expires=15)
        except (KombuError, OSError) as error:
            log.warning("wakeup.lost", task="billing.alerts", error=str(error))

    def has_rules(self, now: float) -> bool:
        """Whether any tenant has a rule, as of at most ten seconds ago."""
        if now - self.asked >= SECONDS_KNOWN:
            self.asked = now
            try:
                rules = AlertRule.objects.filter(enabled=True, deleted_at__isnull=True)
                self.any_rules = rules.exists()
            except DatabaseError as error:
                log.warning("alerts.unknown", error=str(error))
        return self.any_rules


alerts_after_fold = _Waker()
_SEVERITIES = {"info": "info", "warn": "warning", "critical": "critical"}


def alerts_beside_usage(tenant_id: int, customer_ref: str, now: datetime) -> list[dict[str, Any]]:
    """The customer's open alerts as current usage shows them; free while nobody has rules."""
    if not alerts_after_fold.has_rules(time.monotonic()):
        return []
    found = alerts_of_customer(tenant_id=tenant_id, customer_ref=customer_ref, now=now)
    return [
        {
            "type": state.rule.type,
            "message": state.title,
            "severity": _SEVERITIES[state.severity],
            "metric": state.metric or None,
            "action": state.action,
        }
        for state in found
    ]
