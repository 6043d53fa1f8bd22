"""``manage.py migrate`` that never stands in the way of a running service for long.

A migration that needs a table's lock queues behind those who hold it, and everybody else
queues behind the migration. So it waits two seconds at the most, steps back, and tries
again; each migration is its own transaction, so what was done stays done.
"""

import time
from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import migrate
from django.db import OperationalError, connections
from psycopg.errors import LockNotAvailable

LOCK_TIMEOUT_MS = 2_000
ATTEMPTS_MAX = 20
PAUSE_SECONDS = 1.0


def patiently(
    run: Callable[[], Any],
    *,
    database: str = "default",
    lock_timeout_ms: int = LOCK_TIMEOUT_MS,
    attempts: int = ATTEMPTS_MAX,
    pause_s: float = PAUSE_SECONDS,
    say: Callable[[str], Any] = lambda _: None,
) -> Any:
    """Run ``run`` with a short lock timeout, again and again until it gets its locks.

    ``run`` must be safe to repeat after a failure. Raises `CommandError` when it never did.
    """
    connection = connections[database]
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, false)", [f"{lock_timeout_ms}ms"])
        # A data step may take its time; it holds no lock that others wait for.
        cursor.execute("SET statement_timeout = 0")
    try:
        for attempt in range(1, attempts + 1):
            try:
                return run()
            except OperationalError as error:
                if not isinstance(error.__cause__, LockNotAvailable):
                    raise
                say(f"A table is in use; attempt {attempt} of {attempts} gave way.")
                time.sleep(pause_s)
    finally:
        if connection.is_usable():
            with connection.cursor() as cursor:
                cursor.execute("RESET lock_timeout")
                cursor.execute("RESET statement_timeout")
    raise CommandError(
        "A table stayed in use: look for a long transaction in pg_stat_activity, then run again."
    )


class Command(migrate.Command):
    """Django's own, with patience."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Django's, and how long to wait for a lock."""
        super().add_arguments(parser)
        parser.add_argument(
            "--lock-timeout-ms",
            type=int,
            default=LOCK_TIMEOUT_MS,
            help="longest wait for a table's lock before stepping back (2000)",
        )

    def handle(self, *args: Any, **options: Any) -> Any:
        """Migrate."""
        lock_timeout_ms = options.pop("lock_timeout_ms")
        return patiently(
            lambda: super(Command, self).handle(*args, **options),
            database=options["database"],
            lock_timeout_ms=lock_timeout_ms,
            say=self.stdout.write,
        )
