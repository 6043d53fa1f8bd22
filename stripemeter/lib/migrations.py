"""Migrations written in SQL: a file and its reverse beside the migration."""

from pathlib import Path

from django.db.migrations import RunSQL


def sql_pair(migration_file: str, name: str) -> RunSQL:
    """The operation that runs ``sql/<name>.up.sql``, reversed by ``sql/<name>.down.sql``."""
    folder = Path(migration_file).parent / "sql"
    return RunSQL(
        (folder / f"{name}.up.sql").read_text(encoding="utf-8"),
        (folder / f"{name}.down.sql").read_text(encoding="utf-8"),
    )
