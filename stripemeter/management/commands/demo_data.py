"""``manage.py demo_data``: fills a running demo through its public API."""

import os
from argparse import ArgumentParser
from contextlib import ExitStack
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from billing.services.mirroring import refresh_prices
from stripemeter.demo.catalog import TENANTS, DemoTenant
from stripemeter.demo.load import Api, DemoProblem, Loader
from stripemeter.demo.operators import make_operators
from stripemeter.demo.stripe_side import StripeSide
from stripemeter.lib import clock
from stripemeter.tenancy import services
from stripemeter.tenancy.models import Tenant


class Command(BaseCommand):
    """Two tenants, six metrics, forty customers, thirty days; ends with a reconciliation."""

    help = "Load the demo's data through the public API of the running service."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Arguments of the command."""
        parser.add_argument("--url", default=settings.PUBLIC_URL)

    def handle(self, *_args: Any, **options: Any) -> None:
        """Load each tenant that is not there yet, push, and reconcile."""
        if settings.PRODUCTION:
            raise CommandError("demo_data never runs in production.")
        try:
            for tenant in TENANTS:
                self._load(tenant, options["url"])
        except DemoProblem as error:
            raise CommandError(str(error)) from error
        password = os.environ.get("STRIPEMETER_DEMO_PASSWORD")
        if password:
            make_operators(password, now=clock.now())
        refresh_prices(now=clock.now())
        call_command("push", stdout=self.stdout)
        call_command("reconcile", stdout=self.stdout)

    def _load(self, tenant: DemoTenant, url: str) -> None:
        now = clock.now()
        row = Tenant.objects.filter(key=tenant.key).first()
        if row is None:
            row = services.create_tenant(
                key=tenant.key, name=tenant.name, actor="demo_data", now=now
            )
        _, key = services.create_api_key(
            tenant_id=row.pk, name="demo loader", actor="demo_data", now=now
        )
        test_key = settings.STRIPE_TEST_SECRET_KEY
        base = settings.STRIPE_API_BASE
        with ExitStack() as clients:
            loader = Loader(
                api=clients.enter_context(Api.connect(url, tenant.key, key)),
                tenant=tenant,
                live=clients.enter_context(StripeSide.connect(base, settings.STRIPE_SECRET_KEY)),
                test=clients.enter_context(StripeSide.connect(base, test_key))
                if test_key
                else None,
                say=self._say,
            )
            loader.load(now=now)

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
