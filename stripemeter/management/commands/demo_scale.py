"""``manage.py demo_scale``: a tenant with 10 million events of 10,000 customers."""

import time
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from stripemeter.demo.scale import Scale
from stripemeter.lib import clock
from stripemeter.tenancy import services
from stripemeter.tenancy.models import Tenant


class Command(BaseCommand):
    """Writes the tenant straight into the database; see `stripemeter.demo.scale`."""

    help = "Make a large tenant, to try pages and reads on."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Sizes."""
        parser.add_argument("--tenant", default="scale", help="id of the tenant to be made")
        parser.add_argument("--events", type=int, default=10_000_000)
        parser.add_argument("--customers", type=int, default=10_000)

    def handle(self, *_args: Any, **options: Any) -> None:
        """Make it, once."""
        if settings.PRODUCTION:
            raise CommandError("demo_scale never runs in production.")
        events, customers = options["events"], options["customers"]
        if not 1 <= customers <= 1_000_000 or not customers * 110 <= events <= 1_000_000_000:
            raise CommandError("Give 1 to 1,000,000 customers and at least 110 events of each.")
        if Tenant.objects.filter(key=options["tenant"]).exists():
            raise CommandError(f"Tenant {options['tenant']} exists already; nothing was changed.")
        now = clock.now()
        tenant = services.create_tenant(
            key=options["tenant"], name="Scale", actor="demo_scale", now=now
        )
        began = time.monotonic()
        Scale(tenant, events, customers, now, self._say).build()
        seconds = time.monotonic() - began
        self._say(
            f"{events:,} events of {customers:,} customers in {seconds:,.0f} s"
            f" ({events / seconds:,.0f} events/s)"
        )

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
