"""Files for finance: inert, exact, complete, and the same bytes each time."""

import csv
import io
import json
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from reconciliation.exports.sheets import Column, Kind, Sheet
from reconciliation.exports.writers import FORMATS, write
from stripemeter.lib.cells import csv_line, inert

ATTACKS = [
    '=HYPERLINK("http://evil/","x")',
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "  =1",
    "\u00a0=1",
    "＝1",
    "＋1",
    "－1",
    "＠x",
    "\u3000＝cmd",
    "\ufeff=1",
    "\u200b=1",
    '"=1',
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_cell_that_starts_like_a_formula_gets_an_apostrophe(attack):
    assert inert(attack) == "'" + attack


@pytest.mark.parametrize("number", ["0", "-5", "-0.25", "12.50", "007"])
def test_plain_numbers_stay_numbers(number):
    assert inert(number) == number


@pytest.mark.parametrize("odd", ["-", "-.5", "-1e5", "+5", "٣", "-5 ", "--5"])
def test_what_only_looks_like_a_number_is_no_exception(odd):
    assert inert(odd) in {odd, "'" + odd}
    if odd[0] in "+-":
        assert inert(odd) == "'" + odd


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_a_csv_reader_gets_every_text_back_behind_at_most_one_apostrophe(texts):
    line = csv_line(list(texts))
    rows = list(csv.reader(io.StringIO(line, newline="")))
    assert len(rows) == 1
    for text, cell in zip(texts, rows[0], strict=True):
        assert cell in {text, "'" + text}


COLUMNS = (
    Column("customer"),
    Column("quantity", Kind.NUMBER, summed=True),
    Column("events", Kind.INTEGER, summed=True),
    Column("day", Kind.DAY),
    Column("at", Kind.INSTANT),
)


def sheet(rows: int = 4) -> Sheet:
    moment = datetime(2026, 11, 5, 1, 2, 3, 4, tzinfo=UTC)
    customers = ['=HYPERLINK("x")', 'acme, "inc"', "plain", "－full"]
    source = [
        (customers[n % 4], Decimal(n) - Decimal("0.1"), n, date(2026, 11, 5), moment)
        for n in range(rows)
    ]
    return Sheet("usage", COLUMNS, source)


def files(folder: Path, file_format: str, rows: int = 4) -> list[Path]:
    folder.mkdir(exist_ok=True)
    return write([sheet(rows)], folder, file_format, lambda _: None)


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_same_rows_give_the_same_bytes(tmp_path, file_format):
    one = files(tmp_path / "one", file_format)
    other = files(tmp_path / "other", file_format)
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]


def test_the_totals_row_of_csv_equals_its_rows(tmp_path):
    [path] = files(tmp_path, "csv")
    rows = list(csv.reader(io.StringIO(path.read_text("utf-8"), newline="")))
    body, totals = rows[1:-1], rows[-1]
    assert totals == ["TOTAL", "5.6", "6", "", ""]
    assert sum(Decimal(row[1]) for row in body) == Decimal(totals[1])
    assert body[0][0] == '\'=HYPERLINK("x")'


def test_json_keeps_every_digit(tmp_path):
    [path] = files(tmp_path, "json")
    document = json.loads(path.read_text("utf-8"), parse_float=Decimal)
    assert document["rows"][0]["quantity"] == Decimal("-0.1")
    assert document["totals"] == {"quantity": Decimal("5.6"), "events": 6}


def test_parquet_keeps_types_and_totals(tmp_path):
    [path] = files(tmp_path, "parquet")
    table = parquet.read_table(path)
    assert table.column("quantity").to_pylist()[0] == Decimal("-0.1")
    assert table.column("at").to_pylist()[0] == datetime(2026, 11, 5, 1, 2, 3, 4, tzinfo=UTC)
    metadata = parquet.ParquetFile(path).metadata.metadata
    assert metadata[b"total.quantity"] == b"5.6"


def test_xlsx_holds_text_as_text_and_numbers_as_numbers(tmp_path):
    [path] = files(tmp_path, "xlsx")
    paper = openpyxl.load_workbook(path)["usage"]
    assert paper["A2"].value == '=HYPERLINK("x")'
    assert {paper.cell(row, 1).data_type for row in range(2, 6)} == {"s"}
    assert paper["B2"].value == -0.1
    assert paper["A6"].value == "TOTAL"
    assert paper["B6"].value == 5.6


def test_a_number_beyond_a_double_is_written_as_text(tmp_path):
    wide = Decimal("12345678901234567.25")
    source = [("c", wide, 1, date(2026, 11, 5), datetime(2026, 11, 5, tzinfo=UTC))]
    [path] = write([Sheet("usage", COLUMNS, source)], tmp_path, "xlsx", lambda _: None)
    assert openpyxl.load_workbook(path)["usage"]["B2"].value == "12345678901234567.25"


MEASURED = """
import resource, sys, tempfile
from decimal import Decimal
from datetime import date, datetime, UTC
from pathlib import Path
from reconciliation.exports.sheets import Column, Kind, Sheet
from reconciliation.exports.writers import write
quantity = Column("quantity", Kind.NUMBER, summed=True)
columns = (Column("customer"), quantity, Column("day", Kind.DAY))
def source(rows):
    for n in range(rows):
        yield (f"customer-{n}", Decimal(n), date(2026, 11, 5))
with tempfile.TemporaryDirectory() as folder:
    write([Sheet("usage", columns, source(1000))], Path(folder), sys.argv[1], lambda _: None)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    many = Sheet("usage", columns, source(int(sys.argv[2])))
    write([many], Path(folder), sys.argv[1], lambda _: None)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("file_format", FORMATS)
def test_memory_does_not_grow_with_the_rows(file_format):
    """30,000 rows would need some 10 MiB if they were held."""
    grown = _grown_kib(file_format, 30_000)
    assert grown < 16 * 1024, f"{grown} KiB"


@pytest.mark.large
@pytest.mark.parametrize("file_format", FORMATS)
def test_a_million_rows_stream_in_constant_memory(file_format):
    assert _grown_kib(file_format, 1_000_000) < 64 * 1024


def _grown_kib(file_format: str, rows: int) -> int:
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, file_format, str(rows)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    return int(done.stdout)
