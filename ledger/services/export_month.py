"""Writes a closed month of the ledger to Parquet, with a manifest that proves the copy.

The manifest holds the file's SHA-256 and, apart from the file format, what the rows say: how many
there are, the quantity of each metric, and a digest over (key, fingerprint) in key order. The
fingerprint covers everything an event says, so an equal digest means equal events.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, LiteralString

import pyarrow as pa
import pyarrow.parquet as pq
from django.db import connection, transaction

from ledger.models import Metric
from stripemeter.lib import strictjson
from stripemeter.lib.decimals import plain
from stripemeter.lib.errors import invalid
from stripemeter.lib.instants import rfc3339
from stripemeter.lib.periods import Period
from stripemeter.tenancy import audit
from stripemeter.tenancy.models import Tenant

ROWS = 50_000
_SCHEMA = pa.schema(
    [
        ("key", pa.binary(16)), ("fingerprint", pa.binary(16)), ("batch_id", pa.int64()),
        ("ts", pa.timestamp("us", tz="UTC")), ("recorded_at", pa.timestamp("us", tz="UTC")),
        ("metric", pa.string()), ("customer_ref", pa.string()), ("resource_id", pa.string()),
        ("quantity", pa.decimal128(38, 12)), ("source", pa.string()),
        ("key_text", pa.string()), ("meta", pa.string()),
    ]
)  # fmt: skip
_EVENTS: LiteralString = """
SELECT key, fingerprint, batch_id, ts, recorded_at, metric_id, customer_ref, resource_id,
       quantity, source, key_text, meta::text
FROM ledger_event WHERE tenant_id = %s AND ts >= %s AND ts < %s ORDER BY key
"""


@dataclass(slots=True)
class Contents:
    """What the rows of a month say, however they are stored."""

    rows: int
    #: Sum of quantities by metric name, as plain decimals.
    quantities: dict[str, str]
    #: SHA-256 over key and fingerprint of each row, in key order.
    digest: str


class _Tally:
    def __init__(self) -> None:
        self.rows = 0
        self.quantities: dict[str, Decimal] = {}
        self._digest = hashlib.sha256()

    def add(self, key: bytes, fingerprint: bytes, metric: str, quantity: Decimal) -> None:
        self.rows += 1
        self._digest.update(key + fingerprint)
        self.quantities[metric] = self.quantities.get(metric, Decimal(0)) + quantity

    def contents(self) -> Contents:
        sums = {name: plain(self.quantities[name]) for name in sorted(self.quantities)}
        return Contents(self.rows, sums, self._digest.hexdigest())


def closed_month(month: str, *, now: datetime) -> Period:
    """The month ``YYYY-MM``. Raises `InvalidRequest` if it is none or has not ended."""
    try:
        start = datetime.fromisoformat(f"{month}-01T00:00:00+00:00")
    except ValueError as error:
        raise invalid("month", "must be a month such as 2026-08") from error
    end = (start + timedelta(days=32)).replace(day=1)
    if end > now:
        raise invalid("month", "has not ended yet")
    return Period(start, end)


def export_month(
    *, tenant: Tenant, month: str, folder: Path, actor: str, now: datetime
) -> dict[str, Any]:
    """Write ``events-<tenant>-<month>.parquet`` and its manifest; the manifest.

    Both appear whole or not at all: they are written beside and renamed after a flush.
    """
    period = closed_month(month, now=now)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"events-{tenant.key}-{month}.parquet"
    scratch = target.with_suffix(".partial")
    with transaction.atomic():
        contents = _write(tenant.pk, period, scratch)
        manifest = {
            "tenant": tenant.key,
            "month": month,
            "file": target.name,
            "bytes": scratch.stat().st_size,
            "sha256": sha256_of(scratch),
            "exportedAt": rfc3339(now),
            **asdict(contents),
        }
        audit.record(
            tenant_id=tenant.pk, actor=actor, action="ledger.exported", object_type="month",
            object_id=month, now=now, after=manifest,
        )  # fmt: skip
    _publish(scratch, target)
    text = manifest_of(target)
    beside = text.with_suffix(".partial")
    beside.write_bytes(strictjson.dumps(manifest) + b"\n")
    _publish(beside, text)
    return manifest


def manifest_of(target: Path) -> Path:
    """Where the manifest of an export lies."""
    return target.with_suffix(".manifest.json")


def _publish(scratch: Path, target: Path) -> None:
    with scratch.open("rb") as file:
        os.fsync(file.fileno())
    scratch.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _rows(tenant_id: int, period: Period) -> Iterator[list[tuple[Any, ...]]]:
    """The month's events in key order, some at a time; needs a transaction."""
    names = dict(Metric.objects.filter(tenant_id=tenant_id).values_list("pk", "name"))
    with connection.chunked_cursor() as cursor:
        cursor.execute(_EVENTS, [tenant_id, period.start, period.end])
        while found := cursor.fetchmany(ROWS):
            yield [
                (row[0].bytes, row[1].bytes, *row[2:5], names[row[5]], *row[6:]) for row in found
            ]


def _write(tenant_id: int, period: Period, path: Path) -> Contents:
    tally = _Tally()
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        for rows in _rows(tenant_id, period):
            for row in rows:
                tally.add(row[0], row[1], row[5], row[8])
            columns = [
                pa.array(column, type=field.type)
                for column, field in zip(zip(*rows, strict=True), _SCHEMA, strict=True)
            ]
            writer.write_batch(pa.record_batch(columns, schema=_SCHEMA))
    return tally.contents()


# --- Verifying --------------------------------------------------------------------------


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest from disk."""
    manifest: dict[str, Any] = strictjson.loads(path.read_bytes())
    return manifest


def file_problems(path: Path) -> list[str]:
    """What is wrong with the file that the manifest at ``path`` describes; empty if nothing."""
    manifest = read_manifest(path)
    target = path.with_name(manifest["file"])
    if not target.exists():
        return [f"{target.name} is missing"]
    if sha256_of(target) != manifest["sha256"]:
        return [f"{target.name} has another SHA-256 than its manifest says"]
    tally = _Tally()
    for batch in pq.ParquetFile(target).iter_batches(
        ROWS, columns=["key", "fingerprint", "metric", "quantity"]
    ):
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            tally.add(*row)
    return _compared(tally.contents(), manifest, "the file")


def ledger_problems(path: Path) -> list[str]:
    """How the ledger differs from the manifest at ``path``: events that came since, or are gone."""
    manifest = read_manifest(path)
    tenant = Tenant.objects.get(key=manifest["tenant"])
    start = datetime.fromisoformat(f"{manifest['month']}-01T00:00:00+00:00")
    period = Period(start, (start + timedelta(days=32)).replace(day=1))
    tally = _Tally()
    with transaction.atomic():
        for rows in _rows(tenant.pk, period):
            for row in rows:
                tally.add(row[0], row[1], row[5], row[8])
    return _compared(tally.contents(), manifest, "the ledger")


def _compared(found: Contents, manifest: dict[str, Any], where: str) -> list[str]:
    problems = []
    for name, value in asdict(found).items():
        wanted = manifest[name]
        if name == "rows" and int(wanted) == value:
            continue
        if value != wanted and name != "rows":
            problems.append(f"{where} has other {name} than the manifest says")
        elif name == "rows":
            problems.append(f"{where} has {value} rows, the manifest says {wanted}")
    return problems
