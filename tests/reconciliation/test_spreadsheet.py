"""A real spreadsheet opens an export: no cell computes, and the totals are the rows' sum."""

import shutil
import subprocess
import warnings
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import openpyxl
import pytest

from reconciliation.exports.sheets import Column, Kind, Sheet
from reconciliation.exports.writers import write

COLUMNS = (
    Column("customer"),
    Column("quantity", Kind.NUMBER, summed=True),
    Column("day", Kind.DAY),
    Column("at", Kind.INSTANT),
)
HOSTILE = [
    "=1+1", "+1+1", "-1+1", "@SUM(1;1)", "\t=1+1", "\r=1+1", " =1+1", "=WEBSERVICE(\"http://x\")",
    "=HYPERLINK(\"http://x\";\"y\")", "＝1+1", "\u00a0=1+1", "\"=1+1", "'=1+1", "=cmd|'/C calc'!A0",
    "a,=1+1", "a\n=1+1", "plain", "007", "1e5",
]  # fmt: skip
#: Comma, double quote, UTF-8, from the first line on; numbers recognised, formulas evaluated.
_READ_CSV = "CSV:44,34,76,1,,1033,false,true,false,false,,true"


@pytest.fixture(scope="module")
def office() -> str:
    found = shutil.which("soffice")
    if found is None:
        warnings.warn("LibreOffice is not installed: exports are NOT opened", stacklevel=1)
        pytest.skip("LibreOffice is absent (Debian: apt-get install libreoffice-calc)")
    return found


@pytest.mark.parametrize("file_format", ["csv", "xlsx"])
def test_no_cell_computes_and_totals_add_up(office: str, tmp_path: Path, file_format: str) -> None:
    at = datetime(2026, 11, 5, 1, 2, 3, tzinfo=UTC)
    rows = [
        (text, Decimal(number) / 8 - 1, date(2026, 11, 5), at)
        for number, text in enumerate(HOSTILE)
    ]
    [path] = write([Sheet("usage", COLUMNS, iter(rows))], tmp_path, file_format, lambda _: None)
    command = [office, "--headless", f"-env:UserInstallation=file://{tmp_path}/profile"]
    command += [f"--infilter={_READ_CSV}"] if file_format == "csv" else []
    command += ["--convert-to", "xlsx", "--outdir", str(tmp_path / "opened"), str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=180)
    book = openpyxl.load_workbook(tmp_path / "opened" / f"{path.stem}.xlsx")
    paper = book.worksheets[0]
    cells = [cell for row in paper.iter_rows() for cell in row]
    assert [cell.coordinate for cell in cells if cell.data_type == "f" or cell.hyperlink] == []
    shown = [row[0].value for row in paper.iter_rows(min_row=2)]
    assert len(shown) == len(HOSTILE) + 1
    assert 2 not in shown  # what 1+1 would be
    numbers = [Decimal(str(row[1].value)) for row in paper.iter_rows(min_row=2)]
    assert sum(numbers[:-1]) == numbers[-1] == sum(row[1] for row in rows)
