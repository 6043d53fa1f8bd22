"""``manage.py export_month 2026-08 --out DIR``: a closed month as Parquet, with a manifest."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ledger.services import export_month as month
from stripemeter.lib import clock
from stripemeter.lib.errors import InvalidRequest
from stripemeter.tenancy.models import Tenant


class Command(BaseCommand):
    """Export, or check exports: exit code 1 if a file or the ledger differs from its manifest."""

    help = "Export a closed month of the ledger to Parquet, or verify exports."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What to export, or what to verify."""
        parser.add_argument("month", nargs="?", help="YYYY-MM, over")
        parser.add_argument("--tenant", help="only this tenant")
        parser.add_argument("--out", type=Path, help="folder for the files")
        parser.add_argument(
            "--verify", type=Path, nargs="+", metavar="MANIFEST", help="check these instead"
        )
        parser.add_argument(
            "--file-only", action="store_true", help="verify without asking the database"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what was asked for."""
        if options["verify"]:
            self._verify(options["verify"], file_only=options["file_only"])
            return
        if not options["month"] or not options["out"]:
            raise CommandError("Name a month and --out, or --verify with manifests.")
        tenants = Tenant.objects.order_by("key")
        if options["tenant"]:
            tenants = tenants.filter(key=options["tenant"])
        if not tenants.exists():
            raise CommandError("There is no such tenant.")
        for tenant in tenants:
            try:
                manifest = month.export_month(
                    tenant=tenant,
                    month=options["month"],
                    folder=options["out"],
                    actor="system:export_month",
                    now=clock.now(),
                )
            except InvalidRequest as error:
                raise CommandError(error.detail) from error
            self.stdout.write(
                f"{manifest['file']}: {manifest['rows']} events, {manifest['bytes']} bytes, "
                f"sha256 {manifest['sha256']}"
            )

    def _verify(self, manifests: list[Path], *, file_only: bool) -> None:
        wrong = 0
        for path in manifests:
            problems = month.file_problems(path)
            if not file_only:
                problems += month.ledger_problems(path)
            wrong += bool(problems)
            self.stdout.write(f"{path.name}: {'; '.join(problems) or 'as its manifest says'}")
        if wrong:
            raise SystemExit(1)
