"""Looks through a backfill before it is started: what it would store. Writes nothing."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

from ledger.files import BadLine, Record
from ledger.services.backfill import Declared, kept_row, read_row
from ledger.wire import EPOCH, StrictEvent

#: A look is a request: it reads the beginning of a long file.
ROWS_MAX = 20_000
ERRORS_SHOWN_MAX, ROWS_SHOWN_MAX = 20, 5


@dataclass(slots=True)
class MetricRows:
    """The readable rows of one metric."""

    rows: int = 0
    quantity: Decimal = Decimal(0)
    customers: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Check:
    """What the rows say; ``cut`` if there are more than were read."""

    rows: int = 0
    failed: int = 0
    cut: bool = False
    first: datetime | None = None
    last: datetime | None = None
    metrics: dict[str, MetricRows] = field(default_factory=dict)
    errors: list[list[Any]] = field(default_factory=list)
    sample: list[dict[str, Any]] = field(default_factory=list)

    @property
    def readable(self) -> int:
        """Rows that would be stored, or recognised as stored before."""
        return self.rows - self.failed

    def add(self, event: StrictEvent) -> None:
        """Count a readable row."""
        moment = EPOCH + timedelta(microseconds=event.ts_us)
        self.first = min(self.first or moment, moment)
        self.last = max(self.last or moment, moment)
        metric = self.metrics.setdefault(event.metric, MetricRows())
        metric.rows += 1
        metric.quantity += Decimal(event.quantity)
        metric.customers.add(event.customer_ref)
        if len(self.sample) < ROWS_SHOWN_MAX:
            self.sample.append(
                {
                    "ts": moment,
                    "metric": event.metric,
                    "customer_ref": event.customer_ref,
                    "quantity": Decimal(event.quantity),
                }
            )


def check_rows(rows: Iterator[Record | BadLine], *, declared: Declared, tenant_key: str) -> Check:
    """Read up to `ROWS_MAX` rows as the backfill would.

    Raises `InvalidRequest` for a bad header, `Forbidden` if a row names another tenant.
    """
    check, request = Check(), declared.as_request()
    for row in islice(rows, ROWS_MAX):
        check.rows += 1
        line, kept = kept_row(row, tenant_key)
        found = read_row(line, kept, request)
        if isinstance(found, StrictEvent):
            check.add(found)
            continue
        check.failed += 1
        if len(check.errors) < ERRORS_SHOWN_MAX:
            check.errors.append(found)
    check.cut = next(rows, None) is not None
    return check
