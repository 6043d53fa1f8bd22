#!/usr/bin/env python
"""Django's command line for StripeMeter."""

import os
import sys

# Commands that change the schema run as the owner of the tables; everything else
# runs as the application role, which cannot change or delete ledger rows.
OWNER_COMMANDS = frozenset({"migrate", "flush", "sqlmigrate", "makemigrations", "grant_app_role"})


def main() -> None:
    """Run one management command."""
    if sys.argv[1:2] == ["up"]:
        from stripemeter.runtime.up import main as up

        sys.exit(up(sys.argv[2:]))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "stripemeter.settings")
    if len(sys.argv) > 1 and sys.argv[1] in OWNER_COMMANDS:
        os.environ.setdefault("STRIPEMETER_DB_ROLE", "owner")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
