"""The shell app: composes the others and holds no rule."""

from django.apps import AppConfig
from django.conf import settings


class ShellConfig(AppConfig):
    """Loads the Celery app with Django, so that tasks bind to it in every process."""

    name = "stripemeter"
    label = "shell"

    def ready(self) -> None:
        from stripemeter import (
            celery,  # noqa: F401  tasks bind to the app on import
            checks,
            health,
        )

        health.register_gauges()
        if settings.PRODUCTION:
            checks.watch_connections()
