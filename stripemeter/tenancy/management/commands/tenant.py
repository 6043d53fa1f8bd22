"""``manage.py tenant create|list``."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from stripemeter.lib import clock
from stripemeter.lib.errors import ProblemError
from stripemeter.tenancy import services
from stripemeter.tenancy.models import Tenant


class Command(BaseCommand):
    """Makes tenants and lists them."""

    help = "Create or list tenants."

    def add_arguments(self, parser: CommandParser) -> None:
        """The two actions."""
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="create a tenant")
        create.add_argument("key", help="its id on the wire: a slug or UUID")
        create.add_argument("--name", default="", help="shown to operators; the id if absent")
        actions.add_parser("list", help="list tenants")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one action."""
        if options["action"] == "list":
            for tenant in Tenant.objects.order_by("key"):
                state = "" if tenant.is_active else "\t(inactive)"
                self.stdout.write(f"{tenant.key}\t{tenant.name}{state}")
            return
        try:
            tenant = services.create_tenant(
                key=options["key"], name=options["name"], actor="cli", now=clock.now()
            )
        except ProblemError as problem:
            raise CommandError(problem.detail) from problem
        self.stdout.write(tenant.key)
