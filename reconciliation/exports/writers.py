"""Sheets to files, in constant memory and without a trace of when or where it ran.

Same rows, same bytes: nothing here reads a clock, and archives carry fixed times.
"""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as arrow
import xlsxwriter
from pyarrow import parquet

from reconciliation.exports.sheets import Kind, Sheet
from stripemeter.lib.cells import Cell, csv_line, text_of
from stripemeter.lib.decimals import digits_and_decimals, plain

FORMATS = ("csv", "xlsx", "parquet", "json")
#: Rows per Parquet row group: bounds memory.
ROW_GROUP_ROWS = 10_000
#: A worksheet ends at 1,048,576 rows, header and totals included.
WORKSHEET_ROWS_MAX = 1_048_574
#: A spreadsheet's numbers are doubles: what has more digits is written as text.
SPREADSHEET_DIGITS_MAX = 15
_FIXED = datetime(2000, 1, 1, tzinfo=UTC).replace(tzinfo=None)
#: Decimals in Parquet: 38 digits, 12 after the point, as the ledger's totals.
_DECIMAL = arrow.decimal128(38, 12)
_ARROW = {
    Kind.TEXT: arrow.string(),
    Kind.NUMBER: _DECIMAL,
    Kind.INTEGER: arrow.int64(),
    Kind.INSTANT: arrow.timestamp("us", tz="UTC"),
    Kind.DAY: arrow.date32(),
}

Progress = Callable[[int], None]


def write(sheets: list[Sheet], folder: Path, file_format: str, progress: Progress) -> list[Path]:
    """Write all sheets into ``folder``; the files in a fixed order.

    ``progress`` is told the number of rows now and then. XLSX is one workbook, the other
    formats are one file per sheet.
    """
    if file_format == "xlsx":
        return [_xlsx(sheets, folder / "export.xlsx", progress)]
    writer = {"csv": _csv, "json": _json, "parquet": _parquet}[file_format]
    paths = []
    for sheet in sheets:
        path = folder / f"{sheet.name}.{file_format}"
        writer(sheet, path, progress)
        paths.append(path)
    return paths


def _told(sheet: Sheet, progress: Progress) -> Iterator[tuple[Cell, ...]]:
    """The rows, with progress told every row group."""
    for number, row in enumerate(sheet.rows(), 1):
        yield row
        if number % ROW_GROUP_ROWS == 0:
            progress(ROW_GROUP_ROWS)
    progress(sheet.rows_written % ROW_GROUP_ROWS)


def _csv(sheet: Sheet, path: Path, progress: Progress) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(csv_line([column.name for column in sheet.columns]))
        for row in _told(sheet, progress):
            file.write(csv_line(list(row)))
        if sheet.totals:
            file.write(csv_line(list(sheet.totals_row())))


def _json(sheet: Sheet, path: Path, progress: Progress) -> None:
    """``{"sheet", "rows": [...], "totals": {...}}``; numbers are exact JSON numbers."""
    names = [column.name for column in sheet.columns]
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write('{"sheet":' + json.dumps(sheet.name) + ',"rows":[')
        separator = "\n"
        for row in _told(sheet, progress):
            members = (
                f"{json.dumps(name)}:{_json_cell(cell)}"
                for name, cell in zip(names, row, strict=True)
            )
            file.write(separator + "{" + ",".join(members) + "}")
            separator = ",\n"
        totals = (f"{json.dumps(name)}:{plain(value)}" for name, value in sheet.totals.items())
        file.write('\n],"totals":{' + ",".join(totals) + "}}\n")


def _json_cell(cell: Cell) -> str:
    if cell is None:
        return "null"
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, Decimal | int):
        return text_of(cell)
    return json.dumps(text_of(cell), ensure_ascii=False)


def _parquet(sheet: Sheet, path: Path, progress: Progress) -> None:
    schema = arrow.schema([(column.name, _ARROW[column.kind]) for column in sheet.columns])
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        batch: list[tuple[Cell, ...]] = []
        for row in _told(sheet, progress):
            batch.append(row)
            if len(batch) == ROW_GROUP_ROWS:
                writer.write_table(_table(sheet, schema, batch))
                batch = []
        if batch:
            writer.write_table(_table(sheet, schema, batch))
        totals = {f"total.{name}": plain(value) for name, value in sheet.totals.items()}
        writer.add_key_value_metadata({"rows": str(sheet.rows_written), **totals})


def _table(sheet: Sheet, schema: Any, rows: list[tuple[Cell, ...]]) -> Any:
    arrays = [
        arrow.array([_arrow_cell(column.kind, row[index]) for row in rows], _ARROW[column.kind])
        for index, column in enumerate(sheet.columns)
    ]
    return arrow.Table.from_arrays(arrays, schema=schema)


def _arrow_cell(kind: Kind, cell: Cell) -> Any:
    if cell is None or kind in {Kind.INSTANT, Kind.DAY, Kind.INTEGER}:
        return cell
    return Decimal(str(cell)) if kind is Kind.NUMBER else text_of(cell)


def _xlsx(sheets: list[Sheet], path: Path, progress: Progress) -> Path:
    options = {
        "constant_memory": True,
        # Text is text: nothing becomes a formula, a link or a number.
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "strings_to_numbers": False,
        "nan_inf_to_errors": False,
        "use_zip64": True,
        "tmpdir": str(path.parent),
    }
    book = xlsxwriter.Workbook(str(path), options)
    book.set_properties({"created": _FIXED, "author": "StripeMeter"})
    bold = book.add_format({"bold": True})
    for sheet in sheets:
        page = line = 0
        paper: Any = None
        for row in _told(sheet, progress):
            if paper is None or line > WORKSHEET_ROWS_MAX:
                page += 1
                paper, line = _worksheet(book, sheet, page, bold), 1
            _write_row(paper, line, row, None)
            line += 1
        if paper is None:
            paper, line = _worksheet(book, sheet, 1, bold), 1
        if sheet.totals:
            _write_row(paper, line, sheet.totals_row(), bold)
    book.close()
    return path


def _worksheet(book: Any, sheet: Sheet, page: int, bold: Any) -> Any:
    paper = book.add_worksheet(sheet.name[:25] if page == 1 else f"{sheet.name[:25]} ({page})")
    paper.freeze_panes(1, 0)
    for index, column in enumerate(sheet.columns):
        paper.write_string(0, index, column.name, bold)
    return paper


def _write_row(paper: Any, line: int, row: tuple[Cell, ...], style: Any) -> None:
    for index, cell in enumerate(row):
        if cell is None:
            continue
        if isinstance(cell, Decimal | int) and not isinstance(cell, bool):
            digits, _ = digits_and_decimals(Decimal(cell))
            if digits <= SPREADSHEET_DIGITS_MAX:
                paper.write_number(line, index, cell, style)
                continue
        paper.write_string(line, index, text_of(cell), style)
