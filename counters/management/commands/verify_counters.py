"""``manage.py verify_counters``: are the counters what the ledger says?"""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from counters.services.verify import verify_counters
from ledger.models import Metric
from stripemeter.lib import clock
from stripemeter.lib.decimals import plain

SHOWN_MAX = 50


class Command(BaseCommand):
    """Exit code 0 if every compared counter equals the ledger (or was repaired), 1 if not."""

    help = "Recompute counters from the ledger and report those that differ."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Whose counters, how many, and whether to set them right."""
        parser.add_argument("--tenant", help="only this tenant")
        parser.add_argument("--sample", type=int, help="only so many customers of each tenant")
        parser.add_argument("--seed", type=int, help="draws the same sample again")
        parser.add_argument("--repair", action="store_true", help="replay what differs")

    def handle(self, *args: Any, **options: Any) -> None:
        """Compare, print, and exit."""
        findings = verify_counters(
            now=clock.now(),
            tenant_key=options["tenant"],
            sample=options["sample"],
            seed=options["seed"],
            repair=options["repair"],
        )
        names = {metric.pk: metric for metric in Metric.objects.all()}
        for tenant, found in findings.by_tenant.items():
            for row in found[:SHOWN_MAX]:
                metric = names[row.metric_id]
                before = row.counter.of(metric.aggregation) + row.counter_adjusted
                after = row.ledger.of(metric.aggregation) + row.adjustments
                self.stdout.write(
                    f"{tenant} {metric.name} {row.customer_ref} {row.period_start:%Y-%m-%d}:"
                    f" counter {plain(before)}, ledger {plain(after)}"
                    + (" (frozen)" if row.frozen else "")
                )
        self.stdout.write(f"{findings.count} counters differ, {findings.repaired} repaired")
        if findings.count > findings.repaired:
            raise SystemExit(1)
