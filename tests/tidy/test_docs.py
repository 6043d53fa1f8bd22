"""The configuration page names the variables that the sources read, no more and no less."""

import re

from tests.support.environment import ROOT
from tests.tidy.variables import variables_read

_ROW = re.compile(r"^\| (`[A-Z][A-Z0-9_]+`(?:, `[A-Z][A-Z0-9_]+`)*) \| ", re.MULTILINE)
#: Read by the tests alone.
_OF_TESTS = {"TEST_DATABASE_URL"}


def test_every_variable_is_documented_and_every_documented_one_is_read() -> None:
    rows = _ROW.findall((ROOT / "docs/configuration.md").read_text(encoding="utf-8"))
    documented = [name.strip("`") for row in rows for name in row.split(", ")]
    assert len(documented) == len(set(documented))
    assert set(documented) - _OF_TESTS == variables_read()
