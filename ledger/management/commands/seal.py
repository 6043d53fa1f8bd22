"""``manage.py seal``: seal what is stored, and keep the heads outside the database."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from ledger.services import seals
from stripemeter.lib import clock


class Command(BaseCommand):
    """Prints how many seals were made."""

    help = "Seal all decided events; --anchor FILE appends the newest seal of each tenant."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Where heads are kept."""
        parser.add_argument("--anchor", type=Path, help="append each tenant's head as JSON lines")

    def handle(self, *args: Any, **options: Any) -> None:
        """Seal, print, anchor."""
        now = clock.now()
        made = seals.seal_ledger(now=now)
        heads = seals.anchor(options["anchor"], now=now) if options["anchor"] else seals.heads()
        self.stdout.write(f"{made} seals made; {len(heads)} tenants have one")
