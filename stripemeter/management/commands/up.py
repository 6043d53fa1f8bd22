"""Lists `up` in `manage.py help`; manage.py itself runs it without loading Django."""

from django.core.management.base import BaseCommand, CommandParser

from stripemeter.runtime.up import main


class Command(BaseCommand):
    """`manage.py up [--demo]`."""

    help = "Start everything on this machine: PostgreSQL, Redis, Stripe sandbox, web, worker, beat."
    requires_system_checks: list[str] = []  # the database may not exist yet

    def add_arguments(self, parser: CommandParser) -> None:
        """Options of the command."""
        parser.add_argument("--demo", action="store_true", help="open demo tenant with demo data")

    def handle(self, *_args: object, **options: object) -> None:
        """Start, supervise until the end, stop."""
        raise SystemExit(main(["--demo"] if options["demo"] else []))
