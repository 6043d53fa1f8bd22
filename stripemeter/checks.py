"""System checks: what `manage.py check`, and every start in production, insists on."""

from collections.abc import Sequence
from typing import Any

from django.apps.config import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from stripemeter import production
from stripemeter.lib.env import ConfigurationError

#: Server settings without which a commit that was acknowledged can be lost.
DURABILITY = ("fsync", "full_page_writes", "synchronous_commit")
OLDEST_SERVER = 150_000


@register(Tags.security, deploy=True)
def check_production(
    app_configs: Sequence[AppConfig] | None, **_options: Any
) -> list[CheckMessage]:
    """The rules that settings enforce when STRIPEMETER_ENV is production."""
    names = [*production.SECRETS, *_READ]
    values = {name: getattr(settings, name) for name in names}
    return [
        Error(refusal.message, hint=refusal.hint, id=f"stripemeter.{refusal.id}")
        for refusal in production.refusals(values)
    ]


@register(Tags.database, deploy=True)
def check_roles(
    app_configs: Sequence[AppConfig] | None,
    databases: Sequence[str] | None = None,
    **_options: Any,
) -> list[CheckMessage]:
    """The service should not own its tables: an owner can switch the ledger's triggers off."""
    messages: list[CheckMessage] = []
    for alias in databases or []:
        with connections[alias].cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
                " AND pg_has_role(current_user, tableowner, 'USAGE')"
            )
            owned = cursor.fetchone()[0]
        if owned:
            messages.append(
                CheckWarning(
                    f"The service's database role has the rights of the owner of {owned} tables",
                    hint="Give DATABASE_URL the application role, DATABASE_OWNER_URL the owner.",
                    id="stripemeter.W001",
                )
            )
    return messages


@register(Tags.compatibility)
def check_time_zone(app_configs: Sequence[AppConfig] | None, **_options: Any) -> list[CheckMessage]:
    """Periods are half-open intervals of UTC; nothing else is understood."""
    if settings.USE_TZ and settings.TIME_ZONE == "UTC":
        return []
    return [Error("Time zone support must be on and in UTC", id="stripemeter.E020")]


@register(Tags.database)
def check_server(
    app_configs: Sequence[AppConfig] | None,
    databases: Sequence[str] | None = None,
    **_options: Any,
) -> list[CheckMessage]:
    """The server is new enough and, in production, keeps what it acknowledged."""
    messages: list[CheckMessage] = []
    for alias in databases or []:
        connection = connections[alias]
        connection.ensure_connection()
        if connection.connection.info.server_version < OLDEST_SERVER:
            messages.append(Error("PostgreSQL 15 or newer is needed", id="stripemeter.E021"))
        if settings.PRODUCTION:
            messages += [
                Error(f"{name} is off: acknowledged events can be lost", id="stripemeter.E022")
                for name in switched_off(connection)
            ]
    return messages


def switched_off(connection: BaseDatabaseWrapper) -> list[str]:
    """Durability settings that are off in this session."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT name FROM pg_settings WHERE name = ANY(%s) AND setting = 'off' ORDER BY name",
            [list(DURABILITY)],
        )
        return [name for (name,) in cursor.fetchall()]


def refuse_forgetful_server(
    sender: object, connection: BaseDatabaseWrapper, **_options: Any
) -> None:
    """Close a new connection to a server that may lose commits; production does not start on it."""
    off = switched_off(connection)
    if off:
        connection.close()
        raise ConfigurationError(
            f"{', '.join(off)} off at the database server: acknowledged events can be lost. "
            "Switch it on; StripeMeter does not run without."
        )


def watch_connections() -> None:
    """Look at each new database connection of this process (production)."""
    connection_created.connect(refuse_forgetful_server, dispatch_uid="stripemeter.durability")


_READ = (
    "DEBUG",
    "OPEN_DEMO_TENANT",
    "FAULT_POINTS",
    "CLOCK_OFFSET_FILE",
    "ALLOWED_HOSTS",
    "PUBLIC_URL",
    "STRIPE_SECRET_KEY",
    "STRIPE_TEST_SECRET_KEY",
    "STRIPE_WEBHOOK_SECRETS",
    "STRIPE_API_BASE",
    "STRIPE_METER_EVENTS_BASE",
)
