"""Calls that hide a clock, a float or a lenient parser have one home each."""

import ast
import re
from collections.abc import Callable, Iterator

import pytest

from tests.support.environment import ROOT
from tests.tidy.sources import PACKAGES, Source, python_sources, tracked_files

#: Files that may, and why.
CLOCK_ALLOWED = {
    "stripemeter/lib/clock.py": "the clock itself",
    "stripemeter/sdk/": "the client wheel: runs in the caller's process",
    "billing/stripe_sandbox/": "has a clock of its own, that tests move",
}
FLOAT_ALLOWED = {
    "billing/forecasting/": "estimates: statistics in floats, turned to Decimal at its edge",
    "billing/stripe/answers.py": "seconds of a Retry-After header",
    "billing/services/accounts.py": "a token bucket counts calls, not usage",
    "billing/stripe_sandbox/": "clocks and delays",
}
JSON_ALLOWED = {
    "stripemeter/lib/strictjson.py": "the strict loader itself",
    "billing/stripe_sandbox/": "a Stripe of its own: imports nothing of ours",
    "stripemeter/sdk/": "the client wheel: has no server code beside it",
}


def _called(node: ast.Call) -> str:
    """Dotted name of what a call calls, as written."""
    return ast.unparse(node.func)


def _calls(source: Source) -> Iterator[tuple[int, str]]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            yield node.lineno, _called(node)


def _offenders(
    packages: tuple[str, ...], banned: Callable[[str], bool], allowed: dict[str, str]
) -> list[str]:
    return [
        f"{source.name}:{line} {name}"
        for source in python_sources(*packages)
        if not source.name.startswith(tuple(allowed)) and "/migrations/" not in source.name
        for line, name in _calls(source)
        if banned(name)
    ]


def _reads_clock(name: str) -> bool:
    return name.endswith(("datetime.now", "datetime.utcnow", "timezone.now", "date.today"))


def _parses_leniently(name: str) -> bool:
    return name in {"json.loads", "json.load", "orjson.loads"}


def _makes_float(name: str) -> bool:
    return name == "float"


def test_only_the_clock_module_reads_the_clock() -> None:
    assert _offenders(PACKAGES, _reads_clock, CLOCK_ALLOWED) == []


def test_only_the_strict_loader_parses_json() -> None:
    assert _offenders(PACKAGES, _parses_leniently, JSON_ALLOWED) == []


def test_no_float_is_made_where_quantities_and_money_are() -> None:
    assert _offenders(("ledger", "counters", "billing"), _makes_float, FLOAT_ALLOWED) == []


@pytest.mark.parametrize(
    ("banned", "call"),
    [
        (_reads_clock, "datetime.now(UTC)"),
        (_reads_clock, "datetime.datetime.utcnow()"),
        (_reads_clock, "timezone.now()"),
        (_parses_leniently, "json.loads(body)"),
        (_makes_float, "float(quantity)"),
    ],
)
def test_the_search_finds_each_banned_call(banned: Callable[[str], bool], call: str) -> None:
    parsed = ast.parse(call).body[0]
    assert isinstance(parsed, ast.Expr)
    assert isinstance(parsed.value, ast.Call)
    assert banned(_called(parsed.value))


#: Written apart, so that this file does not contain them.
_HOSTS = re.compile(
    "|".join(["pypi" + r"\.org", "python" + "hosted", r"registry\." + "npmjs", "--index" + "-url"])
)
_MACHINE_PATHS = re.compile(r"/(?:work|root|Users)/|/home/\w+/")
_TEXT = (
    ".py", ".md", ".toml", ".lock", ".yml", ".yaml", ".sh", ".html", ".js", ".ts", ".css", ".json",
    ".txt", ".cfg", ".ini", ".go", ".java", "Makefile", "Dockerfile", ".ci/run",
)  # fmt: skip
#: They are about such paths.
_SPEAK_OF_PATHS = ("stripemeter/runtime/", "ops/scripts/", "tests/runtime/", "tests/tidy/")


@pytest.mark.parametrize(
    ("what", "pattern"), [("a package registry", _HOSTS), ("a path of one machine", _MACHINE_PATHS)]
)
def test_no_file_names(what: str, pattern: "re.Pattern[str]") -> None:
    found = [
        f"{name}: {line.strip()[:80]}"
        for name in tracked_files()
        if name.endswith(_TEXT) and not name.startswith(_SPEAK_OF_PATHS)
        for line in (ROOT / name).read_text(encoding="utf-8", errors="replace").splitlines()
        if pattern.search(line)
    ]
    assert found == [], f"these name {what}"
