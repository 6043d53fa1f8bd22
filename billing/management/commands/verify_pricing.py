"""``manage.py verify_pricing``: our totals against Stripe's, case by case."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from billing.price_checks import check, golden_cases, tenant_cases
from billing.pricing.numbers import major
from billing.stripe.client import KeyMissing, KeyOfWrongMode
from billing.stripe.errors import StripeRefused, StripeUnavailable
from stripemeter.tenancy.models import Tenant


class Command(BaseCommand):
    """Makes licensed twins of prices and asks Stripe to preview their invoices."""

    help = (
        "Compare our totals with Stripe's create_preview, for Stripe's published examples and"
        " the prices of a tenant. Writes archived products and prices into the test account."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Whose prices, and where."""
        parser.add_argument("--tenant", help="also every price of this tenant's mappings")
        parser.add_argument("--account", default="default", help="acct_…, or the key's own")
        parser.add_argument("--quiet", action="store_true", help="only what differs, and the sum")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print one row a quantity; exit 1 if any differs."""
        cases = golden_cases()
        if options["tenant"]:
            tenant = Tenant.objects.filter(key=options["tenant"]).first()
            if tenant is None:
                raise CommandError(f"no tenant {options['tenant']}")
            cases += list(tenant_cases(tenant.pk))
        table = Table(title="Our totals and Stripe's, in major units")
        for name in ("case", "quantity", "ours", "Stripe", "lines", ""):
            table.add_column(name, justify="left" if name in {"case", ""} else "right")
        asked = differing = 0
        try:
            for each in check(cases, mode="test", account=options["account"]):
                asked += 1
                differing += not each.agrees
                if not each.agrees or not options["quiet"]:
                    places = each.case.price.exponent
                    ours, stripes = major(each.ours, places), major(each.stripes, places)
                    word = "" if each.agrees else "DIFFERS"
                    table.add_row(
                        each.case.name, f"{each.quantity:,}", f"{ours:f}", f"{stripes:f}",
                        str(each.lines), word,
                    )  # fmt: skip
        except (StripeRefused, StripeUnavailable, KeyMissing, KeyOfWrongMode) as error:
            raise CommandError(f"Stripe could not be asked: {error}") from error
        Console(width=110).print(table)
        self.stdout.write(f"{asked} previews of {len(cases)} prices, {differing} differ")
        if differing:
            raise SystemExit(1)
