"""Exports as background operations: asked for, written, linked to, expired."""

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core import signing
from django.db import transaction
from django.db.models import F, Q

from reconciliation.exports.content import open_source, sheets_of
from reconciliation.exports.sheets import Sheet
from reconciliation.exports.writers import FORMATS, write
from reconciliation.models import Export, ExportChunk
from reconciliation.services.findings import new_id, plain_json
from stripemeter.lib.errors import InvalidRequest, invalid
from stripemeter.lib.faults import point
from stripemeter.lib.instants import rfc3339
from stripemeter.lib.logs import get_logger
from stripemeter.lib.periods import Period
from stripemeter.tenancy import audit

log = get_logger(__name__)

CHUNK_BYTES = 1_048_576
KEPT = timedelta(days=7)
LEASE = timedelta(minutes=5)
ATTEMPTS_MAX = 3
LINK_SECONDS = 15 * 60
_SALT = "stripemeter.export"


class Superseded(Exception):
    """Another worker took the export over."""


@transaction.atomic
def request_export(
    *, tenant_id: int, period: Period, file_format: str, actor: str, now: datetime
) -> Export:
    """A queued export of the period. Raises `InvalidRequest` for an unknown format."""
    if file_format not in FORMATS:
        raise invalid("format", f"must be one of {', '.join(FORMATS)}", code="invalid_choice")
    export = Export.objects.create(
        id=new_id(),
        tenant_id=tenant_id,
        period_start=period.start,
        period_end=period.end,
        format=file_format,
        requested_by=actor,
        requested_at=now,
        expires_at=now + KEPT,
    )
    audit.record(
        tenant_id=tenant_id,
        actor=actor,
        action="export.requested",
        object_type="export",
        object_id=export.pk,
        now=now,
        after={"period": rfc3339(period.start), "format": file_format},
    )
    return export


@transaction.atomic
def claim(*, now: datetime, export_id: UUID | None = None) -> Export | None:
    """Take a queued export, or one whose worker died."""
    waiting = Export.objects.select_for_update(skip_locked=True).filter(
        Q(status=Export.Status.QUEUED) | Q(status=Export.Status.RUNNING, lease_until__lt=now)
    )
    if export_id is not None:
        waiting = waiting.filter(pk=export_id)
    export = waiting.order_by("requested_at").first()
    if export is None:
        return None
    export.attempt += 1
    export.rows_written, export.rows_expected = 0, 0
    export.lease_until = now + LEASE
    export.status = Export.Status.RUNNING
    if export.attempt > ATTEMPTS_MAX:
        export.status, export.error = Export.Status.FAILED, "given up after several attempts"
    export.save()
    return export if export.status == Export.Status.RUNNING else None


def execute(export: Export, *, clock: Callable[[], datetime]) -> Export:
    """Write a claimed export; returns it as it ended."""
    try:
        _write(export, clock)
    except Superseded:
        log.warning("export.superseded", export=str(export.pk))
    except Exception as error:
        text = f"{type(error).__name__}: {error}".splitlines()[0][:500]
        _mine(export).update(error=text, lease_until=clock())
        raise
    export.refresh_from_db()
    return export


def _mine(export: Export) -> Any:
    return Export.objects.filter(pk=export.pk, attempt=export.attempt, status=Export.Status.RUNNING)


def _write(export: Export, clock: Callable[[], datetime]) -> None:
    period = Period(export.period_start, export.period_end)
    as_of = clock()

    def progress(rows: int) -> None:
        renewed = _mine(export).update(
            rows_written=F("rows_written") + rows, lease_until=clock() + LEASE
        )
        if not renewed:
            raise Superseded

    with tempfile.TemporaryDirectory(prefix="stripemeter-export-") as name:
        folder = Path(name)
        with open_source(export.tenant_id, period) as source:
            _mine(export).update(rows_expected=source.expected())
            sheets = sheets_of(source)
            paths = write(sheets, folder, export.format, progress)
            snapshot_id = source.snapshot_id
        point("export.written")
        files = [_store(export, path) for path in paths]
    manifest = {
        "export": str(export.pk),
        "tenant": export.tenant.key,
        "period": {"start": rfc3339(period.start), "end": rfc3339(period.end)},
        "format": export.format,
        "asOf": rfc3339(as_of),
        "snapshot": snapshot_id,
        "files": files,
        "sheets": [_described(sheet) for sheet in sheets],
    }
    done = _mine(export).update(
        status=Export.Status.DONE,
        manifest=plain_json(manifest),
        finished_at=clock(),
        lease_until=None,
        error="",
    )
    if not done:
        raise Superseded


def _described(sheet: Sheet) -> dict[str, Any]:
    return {"name": sheet.name, "rows": sheet.rows_written, "totals": sheet.totals}


def _store(export: Export, path: Path) -> dict[str, Any]:
    """Put a file into the database piece by piece; its name, size and SHA-256."""
    digest, size = hashlib.sha256(), 0
    ExportChunk.objects.filter(
        tenant_id=export.tenant_id, export_id=export.pk, file=path.name
    ).delete()
    with path.open("rb") as file:
        for position, data in enumerate(iter(lambda: file.read(CHUNK_BYTES), b"")):
            digest.update(data)
            size += len(data)
            ExportChunk.objects.create(
                tenant_id=export.tenant_id,
                export_id=export.pk,
                file=path.name,
                position=position,
                data=data,
            )
    return {"name": path.name, "bytes": size, "sha256": digest.hexdigest()}


def content(export: Export, file: str) -> Iterator[bytes]:
    """The bytes of a file, a piece at a time."""
    pieces = (
        ExportChunk.objects.filter(tenant_id=export.tenant_id, export_id=export.pk, file=file)
        .order_by("position")
        .values_list("position", flat=True)
    )
    for position in list(pieces):
        yield bytes(
            ExportChunk.objects.values_list("data", flat=True).get(
                tenant_id=export.tenant_id, export_id=export.pk, file=file, position=position
            )
        )


def link_token(export: Export, file: str) -> str:
    """A token that opens one file of one export of one tenant for a quarter of an hour."""
    return signing.dumps([export.tenant_id, str(export.pk), file], salt=_SALT)


def opened(token: str) -> tuple[Export, str]:
    """Export and file of a token. Raises `InvalidRequest` if altered, expired or gone."""
    try:
        tenant_id, export_id, file = signing.loads(token, salt=_SALT, max_age=LINK_SECONDS)
    except (signing.BadSignature, ValueError) as error:
        raise InvalidRequest(
            "The link is not valid or has expired.", code="invalid_link"
        ) from error
    export = Export.objects.filter(
        tenant_id=tenant_id, pk=export_id, status=Export.Status.DONE
    ).first()
    if export is None:
        raise InvalidRequest("The export has expired.", code="invalid_link")
    return export, file


@transaction.atomic
def expire(*, now: datetime) -> int:
    """Delete the files of exports that are past their time; how many exports."""
    past = list(
        Export.objects.select_for_update(skip_locked=True).filter(
            expires_at__lte=now, status__in=[Export.Status.DONE, Export.Status.FAILED]
        )[:100]
    )
    for export in past:
        ExportChunk.objects.filter(tenant_id=export.tenant_id, export_id=export.pk).delete()
        export.status = Export.Status.EXPIRED
        export.save(update_fields=["status"])
    return len(past)
