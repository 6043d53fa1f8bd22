"""``manage.py stripe_sync``: fill the mirror of Stripe, and cut periods as subscriptions do."""

from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import Progress

from billing.services.mirroring import sync
from billing.services.sync import sync_subscriptions
from billing.stripe.client import KeyMissing, KeyOfWrongMode, has_key
from billing.stripe.errors import StripeRefused, StripeUnavailable
from stripemeter.lib import clock


class Command(BaseCommand):
    """Reads products, prices, customers, subscriptions, invoices and disputes into the mirror.

    Then it sets the calendars of customers with live subscriptions.
    """

    help = "Fill the mirror and take billing calendars over from subscriptions; safe to repeat."

    def add_arguments(self, parser: CommandParser) -> None:
        """What to leave out."""
        parser.add_argument(
            "--calendars-only", action="store_true", help="leave the mirror as it is"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Sync with progress and say what was done."""
        console = Console(width=110)
        try:
            if not options["calendars_only"]:
                self._mirror(console)
            if has_key("live"):
                self._calendars(console)
        except (KeyMissing, KeyOfWrongMode, StripeRefused, StripeUnavailable) as error:
            raise CommandError(str(error)) from error

    def _mirror(self, console: Console) -> None:
        counts: Counter[str] = Counter()
        with Progress(console=console, transient=True) as progress:
            bars: dict[str, Any] = {}
            for each in sync(now=clock.now()):
                what = f"{each.mode} {each.account} {each.kind}s"
                bar = bars.get(what) or progress.add_task(what, total=None)
                bars[what] = bar
                counts[what] += each.rows
                progress.update(bar, completed=counts[what], description=f"{what}: {counts[what]}")
        for what, number in counts.items():
            console.print(f"{number:6}  {what} mirrored")

    def _calendars(self, console: Console) -> None:
        counts: Counter[str] = Counter()
        with Progress(console=console, transient=True) as progress:
            bar = progress.add_task("subscriptions", total=None)
            for each in sync_subscriptions(now=clock.now()):
                counts[each.done] += 1
                progress.update(bar, total=each.total, completed=each.number)
        for text, number in sorted(counts.items()):
            console.print(f"{number:6}  {text}")
        if not counts:
            console.print("no subscriptions")
