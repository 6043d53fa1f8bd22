"""``manage.py demo_drift CAUSE``: makes one difference in the demo and shows it found."""

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from reconciliation import injection
from reconciliation.facts import Cause
from reconciliation.models import Finding
from stripemeter.lib import clock
from stripemeter.lib.decimals import plain
from stripemeter.tenancy.models import Tenant


class Command(BaseCommand):
    help = "Injects one cause of drift through the local Stripe sandbox and reconciles."

    def add_arguments(self, parser: CommandParser) -> None:
        """Options of the command."""
        parser.add_argument("cause", choices=[str(each) for each in injection.INJECTIONS])
        parser.add_argument("--tenant", help="tenant id; the first one with pushes without it")
        parser.add_argument("--no-reconcile", action="store_true", help="inject only")

    def handle(self, *args: Any, **options: Any) -> None:
        """Inject, reconcile without waiting for the sandbox to settle, say what to do."""
        tenant = self._tenant(options["tenant"])
        cause = Cause(options["cause"])
        try:
            said = injection.INJECTIONS[cause](injection.stage_of(tenant.pk, clock.now))
        except injection.NotTheDemo as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{tenant.key}: {said}.\n")
        if options["no_reconcile"]:
            return
        patience = 3_600 if cause is Cause.SETTLING else 0
        try:
            call_command(
                "reconcile",
                tenant=tenant.key,
                settle_seconds=patience,
                quiet=True,
                stdout=self.stdout,
            )
        except SystemExit:
            self.stdout.write("")
        self._explain(tenant, cause)

    def _tenant(self, key: str | None) -> Tenant:
        tenants = Tenant.objects.filter(is_active=True, price_mappings__isnull=False)
        tenant = tenants.filter(**({"key": key} if key else {})).order_by("pk").first()
        if tenant is None:
            raise CommandError("No such tenant, or it has no price mapping.")
        return tenant

    def _explain(self, tenant: Tenant, cause: Cause) -> None:
        finding = Finding.objects.filter(
            tenant=tenant, cause=cause, closed_at__isnull=True
        ).order_by("-seen_at").first()  # fmt: skip
        if finding is None:
            self.stdout.write(
                f"No finding named {cause} yet: the workers may be ahead of you; look at\n"
                f"  manage.py reconcile --tenant {tenant.key} --settle-seconds 0\n"
            )
            return
        money = ""
        if finding.amount_minor is not None:
            money = f", {plain(finding.amount_minor)} minor units of {finding.currency}"
        self.stdout.write(
            f"Found: {finding.cause} on {finding.customer_ref}, {plain(finding.units)} units"
            f"{money} ({finding.severity}, {finding.state}).\n"
            f"Evidence: GET /v1/reconciliation/findings/{finding.pk}\n"
            f"Repair:   manage.py repair {finding.pk} --proposer you --approver colleague\n"
        )
