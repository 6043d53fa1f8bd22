"""``manage.py partition_ledger``: cut the ledger into monthly partitions, or add coming months."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ledger.services import partitions
from stripemeter.lib import clock
from stripemeter.lib.errors import Conflict


class Command(BaseCommand):
    """Run as the owner of the tables (``STRIPEMETER_DB_ROLE=owner``); see docs/retention.md."""

    help = "Cut the ledger into monthly partitions; run again to add the coming months."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The first cut locks the ledger: it has to be asked for."""
        parser.add_argument(
            "--cut", action="store_true", help="cut the one table; ingest waits meanwhile"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Cut, or add months."""
        if partitions.is_partitioned():
            made = partitions.add_months(now=clock.now())
            self.stdout.write(f"added {', '.join(made) or 'nothing'}")
            return
        if not options["cut"]:
            raise CommandError("The ledger is one table. Read docs/retention.md, then add --cut.")
        try:
            done = partitions.split(now=clock.now(), say=self.stdout.write)
        except Conflict as error:
            raise CommandError(error.detail) from error
        self.stdout.write(f"{done.events} events in {len(done.months)} monthly partitions")
