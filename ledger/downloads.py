"""Files that people take away: the failed rows of a backfill."""

import csv
import io
from collections.abc import Iterator

from django.http import StreamingHttpResponse

from ledger.models import Operation
from ledger.services import backfill

#: The first characters that make a spreadsheet take a cell for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def failed_rows(operation: Operation) -> StreamingHttpResponse:
    """Every row of the backfill that was not stored, with its line and reason, as CSV."""
    response = StreamingHttpResponse(_lines(operation), content_type="text/csv")
    response["Content-Disposition"] = f'attachment; filename="backfill-{operation.id}.csv"'
    return response


def _lines(operation: Operation) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(["line", "code", "error"])
    for line, code, reason in backfill.errors_of(operation):
        inert = f"'{reason}" if str(reason).startswith(_FORMULA) else reason
        writer.writerow([line, code, inert])
        if buffer.tell() > 32_768:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()
