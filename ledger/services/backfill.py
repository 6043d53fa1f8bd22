"""Accepts old events on purpose: in one request or one file, stored chunk by chunk.

The request only keeps the rows (`BackfillChunk`) and answers; a worker stores each chunk with
its counts in one transaction. Killed at any instant, the next worker goes on with the first chunk
that is not done. Keys come from the rows' own content, so the same file again adds nothing.
"""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from io import TextIOBase
from typing import Any

from django.conf import settings
from django.db import transaction

from ledger.files import BadLine, Record
from ledger.limits import limits
from ledger.models import BackfillChunk, Operation
from ledger.services import operations
from ledger.services.ingest import ingest
from ledger.services.registry import forget_cached_metrics
from ledger.wire import EPOCH, Columns, StrictEvent, strict_event
from stripemeter.lib import strictjson
from stripemeter.lib.errors import FieldError, Forbidden, invalid
from stripemeter.lib.faults import point
from stripemeter.lib.instants import rfc3339

CHUNK_ROWS_MAX = 5_000
SPAN_MAX = timedelta(days=1_100)
LINE_CHARS_MAX = 65_536
_LIMITS = limits(batch_max=CHUNK_ROWS_MAX)
#: Spellings of each column, as the predecessor took them.
_COLUMNS = {
    "tenantId": "tenantId",
    "tenant_id": "tenantId",
    "metric": "metric",
    "customerRef": "customerRef",
    "customer_ref": "customerRef",
    "resourceId": "resourceId",
    "resource_id": "resourceId",
    "quantity": "quantity",
    "ts": "ts",
    "timestamp": "ts",
    "created_at": "ts",
    "source": "source",
    "meta": "meta",
    "idempotencyKey": "idempotencyKey",
    "idempotency_key": "idempotencyKey",
}
#: What a column can be.
FIELDS = tuple(dict.fromkeys(_COLUMNS.values()))
#: What neither the database nor JSON can hold.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Declared:
    """What a backfill says of its rows; a row that says otherwise fails."""

    start: date
    #: The last day, included.
    end: date
    reason: str
    source_type: str
    metric: str | None = None
    customer_ref: str | None = None

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise invalid("periodEnd", "must not lie before periodStart")
        if self.end - self.start > SPAN_MAX:
            raise invalid("periodEnd", f"may lie at most {SPAN_MAX.days} days after periodStart")

    def as_request(self) -> dict[str, Any]:
        """What the operation keeps of it."""
        return {
            "metric": self.metric,
            "customerRef": self.customer_ref,
            "periodStart": self.start.isoformat(),
            "periodEnd": self.end.isoformat(),
            "reason": self.reason,
            "sourceType": self.source_type,
        }


def end_of_month(day: date) -> date:
    """The last day of the month of ``day``: where a backfill ends that does not say."""
    following = day.replace(day=28) + timedelta(days=4)
    return following - timedelta(days=following.day)


def read_csv(
    text: TextIOBase, *, declared: Declared, mapping: Mapping[str, str] | None = None
) -> Iterator[Record | BadLine]:
    """The rows of a CSV with a header, as events. Raises `InvalidRequest` for a bad header.

    ``mapping`` says which field a column is, by the column's name; an empty field leaves the
    column out. Columns it does not name are known by their own names.
    """
    reader = csv.reader(text, strict=True)
    header = _header(reader)
    names = _names(header, declared, mapping or {})
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            if "end of data" in str(error):
                raise invalid("csvData", "has a quote that is never closed") from error
            yield BadLine(reader.line_num, f"not CSV: {error}")
            continue
        if row is None:
            return
        if not row:
            continue
        if len(row) != len(names):
            yield BadLine(reader.line_num, f"has {len(row)} cells, the header has {len(names)}")
            continue
        cells = {name: cell for name, cell in zip(names, row, strict=True) if name and cell != ""}
        yield _csv_record(reader.line_num, cells)


def header_of(text: TextIOBase) -> list[str]:
    """The names of a CSV's columns. Raises `InvalidRequest` if it does not begin as one."""
    return _header(csv.reader(text, strict=True))


def _header(reader: Iterator[list[str]]) -> list[str]:
    try:
        return [name.lstrip("\ufeff") for name in next(reader, [])]
    except csv.Error as error:
        raise invalid("csvData", f"is not CSV: {error}", code="invalid_csv") from error


def field_of(column: str) -> str:
    """The field that a column of this name is taken for; empty if none is."""
    return _COLUMNS.get(column, "")


def _names(header: list[str], declared: Declared, mapping: Mapping[str, str]) -> list[str]:
    unknown = [name for name in header if name not in _COLUMNS and name not in mapping]
    if unknown or not header:
        raise invalid("csvData", f"column {(unknown or [''])[0][:80]!r} is not known")
    names = [mapping.get(name, field_of(name)) for name in header]
    if not set(names) <= {"", *FIELDS}:
        raise invalid("mapping", "names a field that events do not have")
    twice = {name for name in names if name and names.count(name) > 1}
    if twice:
        raise invalid("csvData", f"column {min(twice)} is there twice")
    required = {"quantity", "ts"}
    required |= set() if declared.metric else {"metric"}
    required |= set() if declared.customer_ref else {"customerRef"}
    missing = required - set(names)
    if missing:
        raise invalid("csvData", f"column {min(missing)} is missing")
    return names


def _csv_record(line: int, cells: dict[str, Any]) -> Record | BadLine:
    if "meta" in cells:
        try:
            cells["meta"] = strictjson.loads(cells["meta"])
        except strictjson.InvalidJSON as error:
            return BadLine(line, f"meta: {error}")
    return Record(line, cells)


def read_ndjson(text: Iterable[str]) -> Iterator[Record | BadLine]:
    """One event a line."""
    for number, line in enumerate(text, 1):
        line = line.lstrip("\ufeff").strip()
        if not line:
            continue
        if len(line) > LINE_CHARS_MAX:
            yield BadLine(number, f"is longer than {LINE_CHARS_MAX} characters")
            continue
        try:
            value = strictjson.loads(line)
        except strictjson.InvalidJSON as error:
            yield BadLine(number, str(error))
            continue
        yield Record(number, value) if isinstance(value, dict) else BadLine(number, "no object")


def read_events(events: list[Any]) -> Iterator[Record | BadLine]:
    """Events of a JSON list; the line is the position, from 1."""
    for number, event in enumerate(events, 1):
        yield Record(number, event) if isinstance(event, dict) else BadLine(number, "no object")


@transaction.atomic
def create_backfill(
    *,
    tenant_id: int,
    tenant_key: str,
    rows: Iterator[Record | BadLine],
    declared: Declared,
    actor: str,
    now: datetime,
) -> Operation:
    """Keep the rows and leave them to a worker.

    Raises `InvalidRequest` if there is none, `Forbidden` if one names another tenant: then
    nothing is kept.
    """
    operation = operations.create(
        tenant_id=tenant_id,
        kind=Operation.Kind.BACKFILL,
        request=declared.as_request(),
        actor=actor,
        now=now,
    )
    total, number = 0, 0
    pending: list[list[Any]] = []
    for row in rows:
        pending.append(kept_row(row, tenant_key))
        total += 1
        if len(pending) == CHUNK_ROWS_MAX:
            _keep_chunk(operation, number, pending)
            number, pending = number + 1, []
    if pending:
        _keep_chunk(operation, number, pending)
        number += 1
    if not total:
        raise invalid("events", "there is no event in it", code="empty")
    operation.steps_total = number
    operation.result = {"total": total, "accepted": 0, "duplicates": 0, "failed": 0}
    operation.save(update_fields=["steps_total", "result"])
    return operation


def _keep_chunk(operation: Operation, number: int, rows: list[list[Any]]) -> None:
    text = strictjson.dumps(rows).decode("utf-8")
    BackfillChunk.objects.create(operation=operation, number=number, rows=text, row_count=len(rows))


def kept_row(row: Record | BadLine, tenant_key: str) -> list[Any]:
    """``[line, row]`` as it is stored. Raises `Forbidden` if it names another tenant."""
    if isinstance(row, BadLine):
        return [row.line, _UNSTORABLE.sub("?", row.reason)]
    tenant = row.values.get("tenantId")
    if tenant is not None and tenant != tenant_key:
        raise Forbidden("Mismatched tenantId in events", code="tenant_mismatch")
    if any(isinstance(cell, str) and _UNSTORABLE.search(cell) for cell in row.values.values()):
        return [row.line, "contains bytes that are not UTF-8 text"]
    return [row.line, row.values]


# --- The worker's part ------------------------------------------------------------------


def run_backfill(operation: Operation, *, clock: Callable[[], datetime]) -> None:
    """Store the chunks that are not done yet; call it with a claimed operation."""
    operations.run(operation, do_step=lambda held: _store_next(held, clock()), clock=clock)


def _store_next(operation: Operation, now: datetime) -> bool:
    chunk = operation.chunks.filter(done=False).order_by("number").first()
    if chunk is None:
        return False
    try:
        _store_chunk(operation, chunk, now)
    except BaseException:
        # Metrics registered in this transaction are gone with it.
        forget_cached_metrics()
        raise
    point("backfill.stored")
    counts = operation.result
    counts["accepted"] += chunk.accepted
    counts["duplicates"] += chunk.duplicates
    counts["failed"] += chunk.failed
    operation.steps_done += 1
    operation.save(update_fields=["result", "steps_done"])
    return operation.steps_done < operation.steps_total


@dataclass(slots=True)
class _Prepared:
    lines: list[int]
    columns: Columns
    errors: list[list[Any]]


def _store_chunk(operation: Operation, chunk: BackfillChunk, now: datetime) -> None:
    prepared = _prepare(chunk, operation.request)
    if prepared.lines:
        outcome = ingest(
            tenant_id=operation.tenant_id,
            columns=prepared.columns,
            now=now,
            future_tolerance=timedelta(seconds=settings.FUTURE_TOLERANCE_SECONDS),
            meta_bytes_max=settings.MAX_EVENT_META_BYTES,
        )
        chunk.accepted, chunk.duplicates = outcome.accepted, outcome.duplicates
        for line, result in zip(prepared.lines, outcome.results, strict=True):
            if result.status in {"error", "conflict"}:
                prepared.errors.append([line, result.status, result.error])
    chunk.errors = sorted(prepared.errors)
    chunk.failed = chunk.row_count - chunk.accepted - chunk.duplicates
    chunk.done = True
    chunk.save()


def _prepare(chunk: BackfillChunk, request: dict[str, Any]) -> _Prepared:
    prepared = _Prepared([], Columns(), [])
    for line, row in strictjson.loads(chunk.rows):
        found = read_row(line, row, request)
        if isinstance(found, StrictEvent):
            prepared.lines.append(line)
            prepared.columns.add(found)
        else:
            prepared.errors.append(found)
    return prepared


def read_row(line: int, row: dict[str, Any] | str, request: dict[str, Any]) -> Any:
    """The event of a kept row, or ``[line, code, reason]``: why it is none of this backfill."""
    if isinstance(row, str):
        return [line, "unreadable", row]
    start = datetime.combine(date.fromisoformat(request["periodStart"]), time.min, UTC)
    end = datetime.combine(date.fromisoformat(request["periodEnd"]), time.min, UTC)
    end += timedelta(days=1)
    found = _event_of(row, line, request)
    if isinstance(found, StrictEvent):
        moment = EPOCH + timedelta(microseconds=found.ts_us)
        if start <= moment < end:
            return found
        text = f"ts {rfc3339(moment)} lies outside the declared period"
        found = [FieldError("outside_period", text)]
    return [line, found[0].code, "; ".join(fault.detail for fault in found)]


def _event_of(
    row: dict[str, Any], line: int, request: dict[str, Any]
) -> StrictEvent | list[FieldError]:
    event = {"source": "import", "tenantId": "own", **row}
    for name in ("metric", "customerRef"):
        declared = request[name]
        if declared is None:
            continue
        if event.setdefault(name, declared) != declared:
            return [FieldError("not_declared", f"{name} differs from the declared one", name)]
    return strict_event(event, index=line, limits=_LIMITS)


def errors_of(operation: Operation) -> Iterator[list[Any]]:
    """``[line, code, reason]`` of each row that was not stored, by line."""
    chunks = operation.chunks.filter(failed__gt=0).order_by("number")
    for found in chunks.values_list("errors", flat=True).iterator(chunk_size=20):
        yield from found


def counts_of(operation: Operation) -> dict[str, int]:
    """How many rows there are, and what became of them so far."""
    result = {"total": 0, "accepted": 0, "duplicates": 0, "failed": 0, **operation.result}
    processed = result["accepted"] + result["duplicates"] + result["failed"]
    return {**result, "processed": processed}
