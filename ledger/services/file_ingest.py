"""Turns a usage file into events, in batches, safely run twice.

Each line's key is made of the file's digest and the line number, so a second run of the
same file counts nothing twice, whatever killed the first.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ledger.files import BadLine, Record
from ledger.services.ingest import ingest
from ledger.wire import Columns, Limits, StrictEvent, strict_event

BATCH_EVENTS = 1_000
FIELDS = ("metric", "customerRef", "quantity", "ts", "resourceId", "idempotencyKey")
_DIGEST_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Mapping:
    """Which column or constant fills each field of an event."""

    columns: dict[str, str]
    constants: dict[str, str]

    def event(self, record: Record, *, tenant_key: str, file_key: str) -> dict[str, Any]:
        """The native event of ``record``; a missing column leaves its field out."""
        event: dict[str, Any] = {"tenantId": tenant_key, "source": "import"}
        event["idempotencyKey"] = f"{file_key}:{record.line}"
        event.update(self.constants)
        for name, column in self.columns.items():
            if record.values.get(column) is not None:
                event[name] = record.values[column]
        return event


@dataclass(slots=True)
class Tally:
    """What became of the lines; they add up to the lines read."""

    lines: int = 0
    accepted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    failed: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)

    def fail(self, line: int, reason: str) -> None:
        """Count a line that is not usage, and keep its reason."""
        self.failed += 1
        self.failures.append((line, reason))


def file_key(path: Path) -> str:
    """Names the file by content: ``file:`` and 128 bits of its SHA-256."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_DIGEST_CHUNK):
            digest.update(chunk)
    return f"file:{digest.hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class Target:
    """For whom a file is ingested, and under which limits."""

    tenant_id: int
    tenant_key: str
    limits: Limits
    future_tolerance: timedelta


def ingest_records(
    records: Iterator[Record | BadLine],
    *,
    target: Target,
    mapping: Mapping,
    key: str,
    now: datetime,
    skip_lines: int = 0,
    after_batch: Callable[[int, Tally], None] = lambda _line, _tally: None,
) -> Tally:
    """Store every record as an event; failures are kept with their line.

    ``after_batch`` is called with the last line stored, for progress and checkpoints.
    """
    tally = Tally()
    columns, lines = Columns(), []
    last_line = 0
    for record in records:
        last_line = record.line
        if record.line <= skip_lines:
            continue
        tally.lines += 1
        if isinstance(record, BadLine):
            tally.fail(record.line, record.reason)
            continue
        found = strict_event(
            mapping.event(record, tenant_key=target.tenant_key, file_key=key),
            index=0,
            limits=target.limits,
        )
        if not isinstance(found, StrictEvent):
            tally.fail(record.line, "; ".join(fault.detail for fault in found))
            continue
        columns.add(found)
        lines.append(record.line)
        if len(lines) >= BATCH_EVENTS:
            _store(columns, lines, target, now, tally)
            columns, lines = Columns(), []
            after_batch(last_line, tally)
    if lines:
        _store(columns, lines, target, now, tally)
    after_batch(last_line, tally)
    return tally


def _store(columns: Columns, lines: list[int], target: Target, now: datetime, tally: Tally) -> None:
    outcome = ingest(
        tenant_id=target.tenant_id,
        columns=columns,
        now=now,
        future_tolerance=target.future_tolerance,
        meta_bytes_max=target.limits.meta_bytes_max,
    )
    tally.accepted += outcome.accepted
    tally.duplicates += outcome.duplicates
    tally.conflicts += outcome.conflicts
    for line, result in zip(lines, outcome.results, strict=True):
        if result.status == "error":
            tally.fail(line, result.error or "refused")
