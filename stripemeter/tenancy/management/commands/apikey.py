"""``manage.py apikey create|list|rotate|revoke --tenant KEY``. A plaintext is printed once."""

from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from stripemeter.lib import clock
from stripemeter.lib.errors import ProblemError
from stripemeter.tenancy import selectors, services
from stripemeter.tenancy.models import ApiKey, Tenant
from stripemeter.tenancy.scopes import ALL_SCOPES, DEFAULT_SCOPES

ACTOR = "cli"
LIST_MAX = 1_000


class Command(BaseCommand):
    """Makes, lists, rotates and revokes a tenant's API keys."""

    help = "Manage API keys. The key itself goes to standard output, once; notes to stderr."

    def add_arguments(self, parser: CommandParser) -> None:
        """The four actions."""
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="create a key and print it")
        create.add_argument("--name", default="New API Key")
        create.add_argument(
            "--scopes",
            default=",".join(DEFAULT_SCOPES),
            help=f"comma-separated, or 'all': {', '.join(sorted(ALL_SCOPES))}",
        )
        create.add_argument("--expires-days", type=int, help="days until it ends")
        create.add_argument("--test", action="store_true", help="make an sm_test_ key")
        listing = actions.add_parser("list", help="list keys, never their secrets")
        rotate = actions.add_parser("rotate", help="replace a key and print the successor")
        rotate.add_argument("id", help="the 12 characters after sm_live_ or sm_test_")
        rotate.add_argument("--overlap-hours", type=int, default=24)
        revoke = actions.add_parser("revoke", help="end a key")
        revoke.add_argument("id")
        for action in (create, listing, rotate, revoke):
            action.add_argument("--tenant", required=True, help="the tenant's id on the wire")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one action."""
        now = clock.now()
        try:
            tenant = selectors.tenant_by_key(options["tenant"])
            getattr(self, f"_{options['action']}")(tenant, options, now)
        except ProblemError as problem:
            raise CommandError(problem.detail) from problem

    def _create(self, tenant: Tenant, options: dict[str, Any], now: datetime) -> None:
        days = options["expires_days"]
        wanted = options["scopes"]
        key, plaintext = services.create_api_key(
            tenant_id=tenant.pk,
            name=options["name"],
            actor=ACTOR,
            now=now,
            scopes=sorted(ALL_SCOPES) if wanted == "all" else wanted.split(","),
            expires_at=None if days is None else now + timedelta(days=days),
            live=not options["test"],
        )
        self._print_once(key, plaintext)

    def _list(self, tenant: Tenant, options: dict[str, Any], now: datetime) -> None:
        for key in selectors.api_keys(tenant_id=tenant.pk, limit=LIST_MAX):
            used = key.last_used_at.isoformat(timespec="minutes") if key.last_used_at else "never"
            scopes = ",".join(key.scopes)
            self.stdout.write(
                f"{key.lookup}\t{key.status(now)}\t{key.name}\t{scopes}\tlast used {used}"
            )

    def _rotate(self, tenant: Tenant, options: dict[str, Any], now: datetime) -> None:
        key, plaintext = services.rotate_api_key(
            tenant_id=tenant.pk,
            lookup=options["id"],
            actor=ACTOR,
            now=now,
            overlap=timedelta(hours=options["overlap_hours"]),
        )
        self._print_once(key, plaintext)

    def _revoke(self, tenant: Tenant, options: dict[str, Any], now: datetime) -> None:
        key = services.revoke_api_key(
            tenant_id=tenant.pk, lookup=options["id"], actor=ACTOR, now=now
        )
        self.stderr.write(f"Revoked {key.prefix}…")

    def _print_once(self, key: ApiKey, plaintext: str) -> None:
        self.stderr.write(f"Key {key.lookup} of tenant {key.tenant.key}. It is shown this once:")
        self.stdout.write(plaintext)
