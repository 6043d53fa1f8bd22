"""``manage.py ingest_file``: a CSV, NDJSON or access log becomes usage in one command."""

from argparse import ArgumentParser
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ledger import files
from ledger.limits import limits
from ledger.services.file_ingest import FIELDS, Mapping, Tally, Target, file_key, ingest_records
from stripemeter.lib import clock
from stripemeter.lib.cells import csv_line
from stripemeter.tenancy.models import Tenant

#: How an access log is read unless told otherwise: one request of the client address.
_ACCESS_COLUMNS = {"customerRef": "client", "ts": "time"}
_ACCESS_CONSTANTS = {"metric": "http_requests", "quantity": "1"}


class Command(BaseCommand):
    """Ingest a file; run it again after an interruption and it goes on where it stopped."""

    help = (
        "Ingest FILE (CSV, NDJSON, Apache or nginx access log; .gz too) as usage events. "
        "--map FIELD=COLUMN takes a field from a column, --set FIELD=VALUE sets a constant; "
        f"fields: {', '.join(FIELDS)}. Columns of an access log: client, user, time, method, "
        "path, status, bytes, referer, agent."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Arguments of the command."""
        parser.add_argument("file", type=Path)
        parser.add_argument("--tenant", required=True)
        parser.add_argument("--format", choices=files.FORMATS)
        parser.add_argument("--map", nargs="+", action="extend", default=[], metavar="FIELD=COLUMN")
        parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="FIELD=VALUE")
        parser.add_argument("--restart", action="store_true", help="forget the checkpoint")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Ingest, show progress, print the tally; exit 1 if any line failed."""
        path: Path = options["file"]
        if not path.is_file():
            raise CommandError(f"{path} is not a file")
        tenant = Tenant.objects.filter(key=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"There is no tenant {options['tenant']}; see manage.py tenant list")
        kind = options["format"] or files.guess_format(path)
        mapping = _mapping(kind, options["map"], options["set"])
        key = file_key(path)
        checkpoint = _Checkpoint(key)
        if options["restart"]:
            checkpoint.forget()
        tally = self._ingest(path, kind, tenant, mapping, key, checkpoint)
        self._report(path, tally, checkpoint)

    def _ingest(
        self,
        path: Path,
        kind: str,
        tenant: Tenant,
        mapping: Mapping,
        key: str,
        checkpoint: "_Checkpoint",
    ) -> Tally:
        target = Target(
            tenant.pk, tenant.key, limits(batch_max=settings.MAX_INGEST_BATCH), _tolerance()
        )
        skip = checkpoint.line()
        if skip:
            self.stdout.write(f"Going on after line {skip} (--restart begins anew).")
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
        console = Console(stderr=True)
        with (
            files.open_raw(path) as raw,
            Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress,
        ):
            task = progress.add_task(path.name, total=path.stat().st_size)

            def after_batch(line: int, tally: Tally) -> None:
                checkpoint.reach(line)
                done = f"{tally.accepted:,} accepted"
                progress.update(task, completed=raw.tell(), description=done)

            try:
                return ingest_records(
                    files.read(raw, compressed=path.suffix == ".gz", kind=kind),
                    target=target,
                    mapping=mapping,
                    key=key,
                    now=clock.now(),
                    skip_lines=skip,
                    after_batch=after_batch,
                )
            except files.UnreadableFile as error:
                raise CommandError(f"{path}: {error}") from error

    def _report(self, path: Path, tally: Tally, checkpoint: "_Checkpoint") -> None:
        checkpoint.forget()
        self.stdout.write(
            f"{tally.lines:,} lines: {tally.accepted:,} accepted, {tally.duplicates:,} duplicates, "
            f"{tally.conflicts:,} conflicts, {tally.failed:,} failed"
        )
        if tally.failed:
            errors = Path.cwd() / f"{path.name}.errors.csv"
            with errors.open("w", newline="", encoding="utf-8") as stream:
                stream.write(csv_line(["line", "error"]))
                stream.writelines(csv_line(list(failure)) for failure in tally.failures)
            raise CommandError(f"{tally.failed} lines are not usage; see {errors}", returncode=1)


class _Checkpoint:
    """The last line stored of a file, kept over interruptions."""

    def __init__(self, key: str) -> None:
        folder = settings.RUNTIME_DIR / "ingest"
        self.path = folder / (key.removeprefix("file:") + ".line")

    def line(self) -> int:
        try:
            return int(self.path.read_text())
        except (OSError, ValueError):
            return 0

    def reach(self, line: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(str(line))

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)


def _mapping(kind: str, columns: list[str], constants: list[str]) -> Mapping:
    access = kind == "access-log"
    chosen = dict(_ACCESS_COLUMNS) if access else {}
    fixed = dict(_ACCESS_CONSTANTS) if access else {}
    for written, into, other in ((columns, chosen, fixed), (constants, fixed, chosen)):
        for pair in written:
            name, separator, value = pair.partition("=")
            if not separator or name not in FIELDS or not value:
                raise CommandError(f"{pair}: write FIELD=VALUE with a field of {', '.join(FIELDS)}")
            into[name] = value
            other.pop(name, None)
    if kind in {"csv", "ndjson"}:
        for name in FIELDS:
            if name not in chosen and name not in fixed:
                chosen[name] = name
    return Mapping(chosen, fixed)


def _tolerance() -> timedelta:
    return timedelta(seconds=settings.FUTURE_TOLERANCE_SECONDS)
