"""Billing, and what it wants to hear from the counters."""

from django.apps import AppConfig


class BillingConfig(AppConfig):
    name = "billing"
    verbose_name = "Billing"

    def ready(self) -> None:
        """Look at alerts after each fold, and show them beside current usage."""
        from billing.wakeups import alerts_after_fold, alerts_beside_usage
        from counters import hooks

        hooks.after_fold.append(alerts_after_fold)
        hooks.alerts_of.append(alerts_beside_usage)
