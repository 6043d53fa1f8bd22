"""The shell app: composes the others and holds no rule."""

from django.apps import AppConfig
from django.conf import settings
from django.db.models.signals import post_migrate


class ShellConfig(AppConfig):
    """Loads the Celery app with Django, so that tasks bind to it in every process."""

    name = "stripemeter"
    label = "shell"

    def ready(self) -> None:
        from stripemeter import (
            celery,  # noqa: F401  tasks bind to the app on import
            checks,
            health,
            telemetry,
        )
        from stripemeter.lib import rowsecurity

        health.register_gauges()
        # Framework signal: the last step of every migrate, whatever it created.
        post_migrate.connect(rowsecurity.protect_tables, sender=self)
        if settings.PRODUCTION:
            checks.watch_connections()
        telemetry.start()
