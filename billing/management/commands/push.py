"""``manage.py push [--tenant KEY] [--seconds N]``: push now, in this process."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from billing import selectors
from billing.services.running import run_pushes
from stripemeter.lib import clock
from stripemeter.lib.decimals import plain
from stripemeter.tenancy.models import Tenant

ROWS_MAX = 50


class Command(BaseCommand):
    """Pushes what is due and prints where every cursor stands."""

    help = "Push what Stripe lacks, now; prints the pushed totals."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which tenant, and for how long."""
        parser.add_argument("--tenant", help="plan for this tenant only")
        parser.add_argument("--seconds", type=float, default=300.0, help="stop after this long")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run and print."""
        tenant = None
        if options["tenant"]:
            tenant = Tenant.objects.filter(key=options["tenant"]).first()
            if tenant is None:
                raise CommandError(f"No tenant {options['tenant']}")
        report = run_pushes(
            clock=clock.now,
            seconds=options["seconds"],
            tenant_id=None if tenant is None else tenant.pk,
        )
        console = Console(width=110)
        outcomes = ", ".join(f"{name} {number}" for name, number in report.outcomes.items())
        console.print(f"planned {report.planned} pushes; calls: {outcomes or 'none'}")
        for mode, reason in report.skipped.items():
            console.print(f"skipped {mode}: {reason}", style="yellow")
        for account in selectors.accounts():
            if account.halted_at is not None:
                console.print(f"halted {account}: {account.halted_reason}", style="red")
            if account.gate_closed_at is not None:
                console.print(f"gate closed {account}: {account.gate_reason}", style="red")
        for each in [tenant] if tenant else Tenant.objects.order_by("key"):
            self._table(console, each)

    def _table(self, console: Console, tenant: Tenant) -> None:
        rows = selectors.mapping_totals(tenant_id=tenant.pk)
        if not rows:
            return
        table = Table(title=f"Pushed totals of {tenant.key} (Stripe's units)")
        for name in ("metric", "mode", "period", "customers", "acknowledged", "open", "held"):
            numeric = name in {"customers", "acknowledged", "open", "held"}
            table.add_column(name, justify="right" if numeric else "left")
        for row in rows[:ROWS_MAX]:
            table.add_row(
                row.metric,
                row.mode,
                f"{row.period_start:%Y-%m-%d}",
                str(row.customers),
                plain(row.acknowledged),
                plain(row.open),
                str(row.held),
            )
        if len(rows) > ROWS_MAX:
            table.caption = f"{len(rows) - ROWS_MAX} more rows"
        console.print(table)
