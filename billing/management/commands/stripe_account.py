"""``manage.py stripe_account list|halt|resume|rederive|release``: stop and restart sending."""

from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from billing import selectors
from billing.models import Mode, StripeAccount
from billing.services import accounts, gate, review
from billing.stripe.client import KeyMissing, KeyOfWrongMode
from billing.stripe.errors import StripeRefused, StripeUnavailable
from stripemeter.lib import clock
from stripemeter.lib.errors import ProblemError
from stripemeter.tenancy.models import Tenant

ACTOR = "cli"


class Command(BaseCommand):
    """Shows and moves the gate of each account; releases held cursors."""

    help = "Halt all accounts after restoring a backup, reconcile, then resume them."

    def add_arguments(self, parser: CommandParser) -> None:
        """The actions."""
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list", help="show accounts, breakers and halts")
        halt = actions.add_parser("halt", help="send nothing until resumed")
        resume = actions.add_parser("resume", help="send again")
        for action in (halt, resume):
            action.add_argument("account", help="acct_…, default, or all")
            action.add_argument("--mode", choices=Mode.values)
        halt.add_argument("--reason", default="halted by an operator")
        actions.add_parser("rederive", help="read Stripe back after a restored backup, open gates")
        release = actions.add_parser("release", help="plan the held cursors of a mapping again")
        release.add_argument("--tenant", required=True)
        release.add_argument("--mapping", required=True, type=UUID)
        release.add_argument("--mode", choices=Mode.values, default=Mode.LIVE)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one action."""
        try:
            getattr(self, f"_{options['action']}")(options)
        except ProblemError as problem:
            raise CommandError(problem.detail) from problem

    def _list(self, options: dict[str, Any]) -> None:
        table = Table(title="Stripe accounts")
        for name in ("account", "mode", "state", "failures", "reason"):
            table.add_column(name)
        now = clock.now()
        for each in selectors.accounts():
            state = "sending" if accounts.may_send(each, now=now) else "breaker open"
            state = "gate closed" if each.gate_closed_at else state
            table.add_row(
                each.account,
                each.mode,
                "halted" if each.halted_at else state,
                str(each.failures),
                each.halted_reason or each.gate_reason,
            )
        Console(width=110).print(table)

    def _chosen(self, options: dict[str, Any]) -> list[StripeAccount]:
        accounts.ensure_accounts()
        found = [
            each
            for each in selectors.accounts()
            if options["account"] in {"all", each.account} and options["mode"] in {None, each.mode}
        ]
        if not found:
            raise CommandError("No such Stripe account")
        return found

    def _halt(self, options: dict[str, Any]) -> None:
        for each in self._chosen(options):
            accounts.halt_account(account_id=each.pk, reason=options["reason"], now=clock.now())
            self.stdout.write(f"halted {each}")

    def _resume(self, options: dict[str, Any]) -> None:
        for each in self._chosen(options):
            accounts.resume_account(
                account_id=each.pk, tenant_id=None, actor=ACTOR, now=clock.now()
            )
            self.stdout.write(f"resumed {each}")

    def _rederive(self, options: dict[str, Any]) -> None:
        try:
            done = gate.rederive(now=clock.now())
        except (StripeUnavailable, StripeRefused, KeyMissing, KeyOfWrongMode) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{done.read} read, {done.adopted} adopted, {done.held} held")
        for name in done.opened or []:
            self.stdout.write(f"opened {name}")
        for each in selectors.accounts():
            if each.gate_closed_at is not None:
                settled = each.gate_closed_at + gate.SETTLING
                self.stdout.write(f"closed {each}: {each.gate_reason} (read from {settled:%H:%M})")

    def _release(self, options: dict[str, Any]) -> None:
        tenant = Tenant.objects.filter(key=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"No tenant {options['tenant']}")
        released = review.release_cursors(
            tenant_id=tenant.pk,
            mapping_id=options["mapping"],
            mode=options["mode"],
            actor=ACTOR,
            now=clock.now(),
        )
        self.stdout.write(f"released {released} cursors")
