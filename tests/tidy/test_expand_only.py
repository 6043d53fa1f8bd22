"""Migrations only expand: the code that runs meanwhile, one version older, must go on working.

What takes something away (a column, a table, a name) comes one release after the code has
stopped using it, and says so: ``contracts = "<why nothing uses it any more>"``.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.migrations.loader import MigrationLoader

from tests.tidy.test_migrations import OURS

TAKES_AWAY = (
    migrations.RemoveField,
    migrations.DeleteModel,
    migrations.RenameField,
    migrations.RenameModel,
    migrations.AlterModelTable,
)
#: Building an index on one of these would lock out every writer for minutes.
LARGE = {
    ("ledger", "event"),
    ("counters", "counter"),
    ("counters", "dailyrollup"),
    ("billing", "push"),
    ("billing", "pushattempt"),
}


def faults(app: str, migration: Any, operations: list[Any]) -> Iterator[str]:
    """What in these operations an older version, or a busy table, would not survive."""
    created = {op.name.lower() for op in operations if isinstance(op, migrations.CreateModel)}
    for operation in operations:
        name = type(operation).__name__
        target = str(getattr(operation, "model_name", "")).lower()
        if isinstance(operation, TAKES_AWAY) and not getattr(migration, "contracts", ""):
            yield f"{name} {target} takes away what running code may use"
        if isinstance(operation, migrations.AddField) and target not in created:
            field = operation.field
            filled = field.null or field.has_db_default() or field.many_to_many
            if not filled:
                yield f"AddField {target}.{operation.name}: older code cannot fill it"
        if (app, target) in LARGE and target not in created:
            if isinstance(operation, migrations.AddIndex) and not isinstance(
                operation, AddIndexConcurrently
            ):
                yield f"AddIndex on {target} locks out its writers: use AddIndexConcurrently"
            if isinstance(operation, migrations.AlterField):
                yield f"AlterField on {target} may rewrite the table"


#: Migrations up to these numbers make up the first release: nothing older runs beside them.
BASELINE = {
    "billing": 8,
    "counters": 6,
    "ledger": 7,
    "reconciliation": 4,
    "shell": 2,
    "tenancy": 4,
    "widget": 2,
}


def test_every_migration_since_the_first_release_only_expands() -> None:
    found = [
        f"{app}.{name}: {fault}"
        for (app, name), migration in MigrationLoader(None).disk_migrations.items()
        if app in OURS and int(name[:4]) > BASELINE[app]
        for fault in faults(app, migration, migration.operations)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("operation", "word"),
    [
        (migrations.RemoveField("event", "meta"), "takes away"),
        (migrations.DeleteModel("Event"), "takes away"),
        (migrations.RenameField("event", "ts", "at"), "takes away"),
        (migrations.AddField("event", "x", models.IntegerField(default=0)), "cannot fill"),
        (migrations.AddIndex("event", models.Index(fields=["ts"], name="x")), "locks out"),
        (migrations.AlterField("event", "ts", models.TextField()), "rewrite"),
    ],
)
def test_the_rule_finds_what_does_not(operation: Any, word: str) -> None:
    (found,) = faults("ledger", migrations.Migration("x", "ledger"), [operation])
    assert word in found


def test_what_expands_passes() -> None:
    fine = [
        migrations.AddField("event", "x", models.IntegerField(null=True)),
        migrations.AddField("event", "y", models.IntegerField(db_default=0)),
        AddIndexConcurrently("event", models.Index(fields=["ts"], name="x")),
    ]
    assert list(faults("ledger", migrations.Migration("x", "ledger"), fine)) == []
