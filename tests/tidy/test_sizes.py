"""Functions and files stay small enough to be read at once."""

import ast
from statistics import median

from tests.tidy.sources import PACKAGES, python_sources

FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 500
#: A longer one needs a reason here.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS = {
    "billing/stripe_sandbox/invoicing.py:_blank": "one literal: an empty invoice of Stripe",
}


def _functions() -> list[tuple[str, int]]:
    found = []
    for source in python_sources(*PACKAGES, "bench", "manage.py"):
        if "/migrations/" in source.name:
            continue
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                found.append((f"{source.name}:{node.name}", lines))
    return found


def test_no_function_is_longer_than_a_screen() -> None:
    long = {
        name: lines
        for name, lines in _functions()
        if lines > FUNCTION_LINES_MAX and name not in LONG_FUNCTIONS
    }
    assert long == {}


def test_most_functions_are_much_shorter() -> None:
    lengths = sorted(lines for _, lines in _functions())
    assert median(lengths) <= 10
    assert lengths[int(len(lengths) * 0.9)] <= 35


def test_no_file_is_longer_than_five_hundred_lines() -> None:
    long = {
        source.name: source.text.count("\n")
        for source in python_sources(*PACKAGES, "bench", "tests")
        if source.text.count("\n") > FILE_LINES_MAX
        and source.name not in LONG_FILES
        and "/migrations/" not in source.name
    }
    assert long == {}
