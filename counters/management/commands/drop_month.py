"""``manage.py drop_month 2026-08 MANIFEST…``: drop an exported month whose counters are frozen."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import Exists, OuterRef

from counters.models import BillingPeriod, Counter
from counters.selectors.periods import FROZEN_STATES
from ledger.services import partitions
from ledger.services.export_month import closed_month
from stripemeter.lib import clock
from stripemeter.lib.errors import Conflict, InvalidRequest
from stripemeter.lib.periods import Period


class Command(BaseCommand):
    """Run as the owner of the tables (``STRIPEMETER_DB_ROLE=owner``); see docs/retention.md."""

    help = "Drop a month of a partitioned ledger, once it is exported and its counters are frozen."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Which month, and the proof that it is kept elsewhere."""
        parser.add_argument("month", help="YYYY-MM")
        parser.add_argument("manifests", type=Path, nargs="*", help="of export_month, one a tenant")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check everything, then drop."""
        try:
            period = closed_month(options["month"], now=clock.now())
            open_counters = _open_counters(period)
            if open_counters:
                raise CommandError(
                    f"{open_counters} counters of that time are not frozen: a replay or a change "
                    "of calendar would count them again without these events."
                )
            dropped = partitions.drop_month(month=period.start, manifests=options["manifests"])
        except (Conflict, InvalidRequest) as error:
            raise CommandError(error.detail) from error
        self.stdout.write(f"{dropped} events dropped; their keys stay")


def _open_counters(period: Period) -> int:
    frozen = BillingPeriod.objects.filter(
        tenant_id=OuterRef("tenant_id"),
        customer_ref=OuterRef("customer_ref"),
        state__in=FROZEN_STATES,
        span__contains=OuterRef("period_start"),
    )
    rows = Counter.objects.filter(
        period_start__lt=period.end, period_end__gt=period.start, event_count__gt=0
    )
    return rows.filter(~Exists(frozen)).count()
