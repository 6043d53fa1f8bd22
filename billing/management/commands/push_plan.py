"""``manage.py push_plan``: how many calls of Stripe a day pushing and reconciling cost."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from billing import selectors
from billing.push_plan import Plan, plan

CUSTOMERS, METRICS = 10_000, 5


class Command(BaseCommand):
    """Computes the budget of calls and holds it against Stripe's limits."""

    help = "Compute Stripe calls per day for a number of customers and metrics."

    def add_arguments(self, parser: CommandParser) -> None:
        """The size to plan for."""
        parser.add_argument("--customers", type=int, default=CUSTOMERS)
        parser.add_argument("--metrics", type=int, default=METRICS)
        parser.add_argument(
            "--interval", type=int, default=settings.PUSH_INTERVAL_SECONDS, help="seconds"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the plan for the size asked for and for what is stored here."""
        if options["interval"] < 1 or options["customers"] < 0 or options["metrics"] < 0:
            raise CommandError("Give an interval of at least 1 second and sizes of at least 0.")
        table = Table(title="Stripe calls per day")
        for name in ("what", "asked for", "stored here"):
            table.add_column(name, justify="left" if name == "what" else "right")
        asked = plan(
            cursors=options["customers"] * options["metrics"],
            interval_seconds=options["interval"],
            calls_per_second=settings.STRIPE_PUSH_RATE_LIVE,
        )
        stored = plan(
            cursors=selectors.active_cursor_count(),
            interval_seconds=options["interval"],
            calls_per_second=settings.STRIPE_PUSH_RATE_LIVE,
        )
        for label, value in _lines():
            table.add_row(label, value(asked), value(stored))
        Console(width=110).print(table)


def _lines() -> list[tuple[str, Any]]:
    def number(name: str) -> Any:
        return lambda each: f"{getattr(each, name):,}"

    def seconds(each: Plan) -> str:
        return f"{each.shortest_interval_seconds:,} s"

    return [
        ("cursors (customer x metric)", number("cursors")),
        ("pushes a day at most, every cursor moving in every interval", number("pushes_per_day")),
        ("calls a second that this takes", number("calls_per_second")),
        ("calls a second that are allowed", number("calls_per_second_max")),
        ("shortest interval that fits", seconds),
        ("reads a day to reconcile each cursor once", number("reads_per_day")),
        ("seconds of reading at 25 a second", number("reading_seconds")),
    ]
