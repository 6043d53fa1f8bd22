"""What the pages name exists, and what exists is documented."""

import re

import pytest

from tests.docs import inventory
from tests.docs.pages import page

_FIRST_CELL = re.compile(r"^\| `([a-z_]+)` \|", re.MULTILINE)
_NAMED = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)
_CONSTRAINTS = "## Named constraints"
READMES = {
    "tenancy": "stripemeter/tenancy/README.md",
    "ledger": "ledger/README.md",
    "counters": "counters/README.md",
    "billing": "billing/README.md",
    "reconciliation": "reconciliation/README.md",
    "widget": "widget/README.md",
}


def test_every_error_code_is_on_its_page_and_no_other() -> None:
    documented = _FIRST_CELL.findall(page("docs/errors.md").text)
    assert len(documented) == len(set(documented))
    codes = inventory.error_codes()
    assert sorted(codes - set(documented)) == [], "describe them in docs/errors.md"
    assert sorted(set(documented) - codes) == [], "docs/errors.md describes what nobody raises"


def test_every_management_command_is_on_its_page_and_no_other() -> None:
    text = page("docs/commands.md").text.partition("## stripemeter")[0]
    assert set(_FIRST_CELL.findall(text)) == inventory.commands(), "see docs/commands.md"


def test_every_command_of_the_command_line_is_on_its_page_and_no_other() -> None:
    from stripemeter.cli.app import main

    text = page("docs/commands.md").text.partition("## stripemeter")[2]
    named = re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE)
    assert set(named) == set(main.commands)


@pytest.mark.parametrize("label", READMES)
def test_the_readme_of_an_app_names_its_constraints_and_no_others(label: str) -> None:
    text = page(READMES[label]).text
    there = inventory.constraints(label)
    unnamed = sorted(name for name in there if f"`{name}`" not in text)
    assert unnamed == [], f"name them in {READMES[label]}"
    listed = _NAMED.findall(text.partition(_CONSTRAINTS)[2].partition("\n## ")[0])
    assert sorted(set(listed) - there) == [], "no such constraint"
