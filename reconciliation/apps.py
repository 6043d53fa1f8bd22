from django.apps import AppConfig


class ReconciliationConfig(AppConfig):
    name = "reconciliation"
    verbose_name = "Reconciliation"

    def ready(self) -> None:
        """Name the gauges that are read from the database."""
        from reconciliation import metrics

        metrics.register()
