"""Files that people take away: the failed rows of a backfill."""

from collections.abc import Iterator

from django.http import StreamingHttpResponse

from ledger.models import Operation
from ledger.services import backfill
from stripemeter.lib.cells import csv_line

LINES_TOGETHER = 500


def failed_rows(operation: Operation) -> StreamingHttpResponse:
    """Every row of the backfill that was not stored, with its line and reason, as CSV."""
    response = StreamingHttpResponse(_lines(operation), content_type="text/csv")
    response["Content-Disposition"] = f'attachment; filename="backfill-{operation.id}.csv"'
    return response


def _lines(operation: Operation) -> Iterator[str]:
    lines = [csv_line(["line", "code", "error"])]
    for line, code, reason in backfill.errors_of(operation):
        lines.append(csv_line([line, code, reason]))
        if len(lines) == LINES_TOGETHER:
            yield "".join(lines)
            lines = []
    yield "".join(lines)
