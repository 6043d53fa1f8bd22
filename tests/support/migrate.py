"""`python -m tests.support.migrate all|third-party`: migrates a test template as its owner."""

import sys

import django
from django.apps import apps
from django.core.management import call_command
from django.db.migrations.loader import MigrationLoader

from tests.support.environment import ROOT


def main(what: str) -> None:
    """Migrate everything, or only the apps whose sources are not in this repository."""
    django.setup()
    if what == "all":
        call_command("migrate", interactive=False, skip_checks=True, verbosity=0)
        return
    installed = {config.label: config for config in apps.get_app_configs()}
    for label in sorted(MigrationLoader(None).migrated_apps):
        if not installed[label].path.startswith(f"{ROOT}/") or "/.venv/" in installed[label].path:
            call_command("migrate", label, interactive=False, skip_checks=True, verbosity=0)


if __name__ == "__main__":
    main(sys.argv[1])
