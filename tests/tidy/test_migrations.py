"""Migrations: none is missing, each app's are a line, dj-stripe's are one."""

import io
from collections import Counter

import pytest
from django.core.management import call_command
from django.db.migrations.loader import MigrationLoader

from tests.support.environment import ROOT

OURS = ("shell", "tenancy", "ledger", "counters", "billing", "reconciliation", "widget")


@pytest.mark.django_db
def test_no_model_change_lacks_its_migration() -> None:
    said = io.StringIO()
    try:
        call_command("makemigrations", check=True, dry_run=True, stdout=said)
    except SystemExit:
        pytest.fail(said.getvalue())


@pytest.mark.django_db
def test_the_generated_migration_of_dj_stripe_fits_the_installed_models() -> None:
    said = io.StringIO()
    try:
        call_command("makemigrations", "djstripe", check=True, dry_run=True, stdout=said)
    except SystemExit:
        pytest.fail("dj-stripe's models changed: generate stripemeter/djstripe_migrations anew\n")
    names = [path.name for path in (ROOT / "stripemeter/djstripe_migrations").glob("0*.py")]
    assert names == ["0001_initial.py"]


def test_the_migrations_of_each_app_are_one_line() -> None:
    loader = MigrationLoader(None)
    children: Counter[tuple[str, str]] = Counter()
    for (app, _), migration in loader.disk_migrations.items():
        children.update(parent for parent in migration.dependencies if parent[0] == app in OURS)
    assert [parent for parent, count in children.items() if count > 1] == []
