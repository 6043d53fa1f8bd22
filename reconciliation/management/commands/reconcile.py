"""``manage.py reconcile``: one run, here and now, with its table."""

import sys
from time import sleep
from typing import IO, Any, cast

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from reconciliation import scheduling
from reconciliation.models import Finding, ReportLine, Run
from reconciliation.selectors import reports
from reconciliation.selectors.reports import Filter
from reconciliation.services import runs
from stripemeter.lib import clock
from stripemeter.lib.decimals import plain
from stripemeter.lib.instants import InvalidInstant
from stripemeter.lib.periods import Period
from stripemeter.tenancy.models import Tenant

ROWS_SHOWN_MAX = 200
#: How long a run that a worker carries out is waited for, and how often it is looked at.
WAIT_SECONDS, POLL_SECONDS = 300, 0.5


class Command(BaseCommand):
    help = (
        "Compares ledger, counters, pushes and Stripe. Exit code 0: parity (or settling); "
        "1: a difference; 2: Stripe could not be read, or the run did not end."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Options of the command."""
        parser.add_argument("--tenant", help="tenant id; all tenants without it")
        parser.add_argument("--period", help="a month like 2026-01; recent periods without it")
        parser.add_argument("--customer", help="one customer reference")
        parser.add_argument("--plan", action="store_true", help="print what would be read, and why")
        parser.add_argument(
            "--settle-seconds",
            type=int,
            help="call what is older than this drift (a sandbox adds up at once: 0)",
        )
        parser.add_argument("--quiet", action="store_true", help="verdicts only, no table")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run per tenant; the worst verdict decides the exit code."""
        if options["settle_seconds"] is not None:
            settings.RECONCILIATION_SETTLING_SECONDS = options["settle_seconds"]
        tenants = Tenant.objects.filter(is_active=True).order_by("key")
        if options["tenant"]:
            tenants = tenants.filter(key=options["tenant"])
            if not tenants:
                raise CommandError(f"no tenant {options['tenant']}")
        try:
            month = reports.month_of(options["period"]) if options["period"] else None
        except InvalidInstant as error:
            raise CommandError("--period must be a month like 2026-01") from error
        console = Console(
            file=cast(IO[str], self.stdout), width=None if sys.stdout.isatty() else 120
        )
        codes = [self._one(tenant, month, console, options) for tenant in tenants]
        worst = max(codes, default=0)
        if worst:
            sys.exit(1 if 1 in codes else worst)

    def _one(
        self, tenant: Tenant, month: Period | None, console: Console, options: dict[str, Any]
    ) -> int:
        now = clock.now()
        asked = {
            "customer_ref": options["customer"],
            "period_from": month.start if month else None,
            "period_to": month.end if month else None,
        }
        if options["plan"]:
            probe = Run(tenant_id=tenant.pk, **asked)
            plan = scheduling.plan_of(runs.scope_of(probe, now), requested=True)
            console.print(f"{tenant.key}: " + "\n".join(plan.lines(now)), highlight=False)
            return 0
        claimed = self._own_run(tenant, asked)
        if claimed is None:
            console.print(f"{tenant.key}: a run is under way elsewhere", highlight=False)
            return 2
        done = runs.execute(claimed, clock=clock.now)
        if not options["quiet"]:
            _print_table(console, tenant, done)
        return _verdict(console, tenant, done)

    def _own_run(self, tenant: Tenant, asked: dict[str, Any]) -> Run | None:
        """A run to carry out here, once a worker's run of the tenant has ended.

        None if that takes longer than `WAIT_SECONDS`.
        """
        for _ in range(int(WAIT_SECONDS / POLL_SECONDS)):
            now = clock.now()
            run, _is_new = runs.request_run(
                tenant_id=tenant.pk, actor="manage.py", now=now, **asked
            )
            claimed = runs.claim(now=now, run_id=run.pk)
            if claimed is not None:
                return claimed
            sleep(POLL_SECONDS)
        return None


def _print_table(console: Console, tenant: Tenant, run: Run) -> None:
    table = Table(title=f"{tenant.key} · run {run.pk}", title_justify="left")
    for name in ("metric", "customer", "period", "mode"):
        table.add_column(name)
    for name in ("ledger", "counter", "pushed", "Stripe", "drift"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    shown = 0
    for row in reports.all_rows(Filter(tenant.pk, _everything(run), None)):
        if row.checked_at < (run.started_at or row.checked_at) or shown >= ROWS_SHOWN_MAX:
            continue
        shown += 1
        causes = ", ".join(part["cause"] for part in row.causes)
        table.add_row(
            row.metric,
            row.customer_ref,
            f"{row.period_start:%Y-%m-%d}",
            row.mode,
            plain(row.ledger),
            plain(row.counter),
            plain(row.acknowledged * row.unit_factor),
            "?" if row.stripe is None else plain(row.stripe * row.unit_factor),
            plain(row.diff),
            f"{row.verdict}: {causes}" if causes else row.verdict,
        )
    console.print(table)
    if run.cursors > shown:
        console.print(f"({run.cursors - shown} more cursors)", highlight=False)


def _everything(run: Run) -> Period:
    lines = run.period_from, run.period_to
    if lines[0] and lines[1]:
        return Period(lines[0], lines[1])
    return Period(reports.month_of("2000-01").start, reports.month_of("9000-01").start)


def _verdict(console: Console, tenant: Tenant, run: Run) -> int:
    counts = (
        f"{run.cursors} cursors: {run.parity} in parity, {run.settling} in flight, settling or "
        f"unread, {run.drifting} differing; {run.stripe_reads} reads of Stripe"
    )
    if run.skipped:
        counts += f"; {run.skipped} left out by the read budget"
    if run.drifting:
        console.print(f"{tenant.key}: DIFFERENCE  {counts}", highlight=False)
        rows = Finding.objects.filter(
            tenant=tenant, last_run_id=run.pk, closed_at__isnull=True, state=Finding.State.OPEN
        ).order_by("cause", "customer_ref")[:50]
        for each in rows:
            console.print(
                f"  {each.cause}: {each.customer_ref} {each.period_start:%Y-%m} "
                f"{plain(each.units)} units ({each.severity})",
                highlight=False,
            )
        return 1
    statuses = set(ReportLine.objects.filter(run_id=run.pk).values_list("status", flat=True))
    if "unread" in statuses:
        console.print(f"{tenant.key}: NOT READ  {counts}", highlight=False)
        return 2
    word = "parity" if "settling" not in statuses else "parity, some still settling"
    console.print(f"{tenant.key}: {word}  {counts}", highlight=False)
    return 0
