"""Tells by its exit code whether a part of the service lives: the health check of containers."""

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from stripemeter.lib import clock
from stripemeter.models import Heartbeat


class Command(BaseCommand):
    """`manage.py check_heartbeat beat|worker [--age SECONDS]`."""

    help = "Exit 0 when the last heartbeat of a component is young enough, else 1."
    requires_system_checks: list[str] = []  # asked every minute

    def add_arguments(self, parser: CommandParser) -> None:
        """Which component, and how old its heartbeat may be (seconds)."""
        parser.add_argument("component", choices=["beat", "worker"])
        parser.add_argument("--age", type=int, default=60)

    def handle(self, *_args: object, **options: Any) -> None:
        """Look at the heartbeat."""
        component, limit = options["component"], timedelta(seconds=options["age"])
        beat = Heartbeat.objects.filter(component=component).first()
        if beat is None:
            raise CommandError(f"{component} never gave a sign of life")
        age = clock.now() - beat.beaten_at
        if age > limit:
            raise CommandError(f"{component}: last sign of life {age.total_seconds():.0f} s ago")
        self.stdout.write(f"{component} lives")
