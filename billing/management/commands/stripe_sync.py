"""``manage.py stripe_sync``: cut billing periods as the subscriptions at Stripe do."""

from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import Progress

from billing.services.sync import sync_subscriptions
from billing.stripe.client import KeyMissing, KeyOfWrongMode
from billing.stripe.errors import StripeRefused, StripeUnavailable
from stripemeter.lib import clock


class Command(BaseCommand):
    """Reads all live subscriptions and sets the calendars of their customers."""

    help = "Take billing calendars over from live subscriptions; safe to repeat."

    def handle(self, *args: Any, **options: Any) -> None:
        """Sync with a progress bar and say what was done."""
        counts: Counter[str] = Counter()
        console = Console(width=110)
        try:
            with Progress(console=console, transient=True) as progress:
                bar = progress.add_task("subscriptions", total=None)
                for each in sync_subscriptions(now=clock.now()):
                    counts[each.done] += 1
                    progress.update(bar, total=each.total, completed=each.number)
        except (KeyMissing, KeyOfWrongMode, StripeRefused, StripeUnavailable) as error:
            raise CommandError(str(error)) from error
        for text, number in sorted(counts.items()):
            console.print(f"{number:6}  {text}")
        if not counts:
            console.print("no subscriptions")
