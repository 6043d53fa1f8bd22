"""What `sim validate`, `sim run` and `sim report` do, without the command line around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from billing.pricing.errors import PricingError
from billing.simulation.assertions import Comparison, Expected, Tolerances, compare, read_expected
from billing.simulation.files import (
    expected_path,
    find_scenarios,
    read_document,
    resolver_for,
    result_path,
    write_json,
)
from billing.simulation.scenarios import (
    InvalidScenario,
    Issue,
    Outcome,
    Scenario,
    read_scenario,
    run_scenario,
    validate_scenario,
)


class Status(StrEnum):
    """How a scenario came out of a report."""

    OK = "ok"
    DIFF = "diff"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Checked:
    """A scenario file and what is wrong with it."""

    path: Path
    issues: tuple[Issue, ...]

    @property
    def is_valid(self) -> bool:
        """Whether nothing is wrong."""
        return not self.issues


@dataclass(frozen=True, slots=True)
class Ran:
    """A scenario file that was run: its outcome, or why it could not be."""

    path: Path
    result_path: Path | None
    outcome: Outcome | None
    issues: tuple[Issue, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One scenario in a report."""

    scenario: str
    path: Path
    status: Status
    differences: tuple[str, ...]
    details: tuple[dict[str, Any], ...] = ()
    compared: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """All scenarios of a report; anything but `ok` counts as a difference."""

    entries: tuple[Entry, ...] = field(default=())

    @property
    def total(self) -> int:
        """Scenarios in the report."""
        return len(self.entries)

    @property
    def diffs(self) -> int:
        """Scenarios that differ or could not be run."""
        return sum(entry.status is not Status.OK for entry in self.entries)

    @property
    def ok(self) -> int:
        """Scenarios that came out as expected."""
        return self.total - self.diffs


def validate(paths: Sequence[Path]) -> list[Checked]:
    """Check scenario files and directories (recursively). Raises UnreadableFile for a bad path."""
    return [Checked(path, tuple(_issues(path))) for path in find_scenarios(paths)]


def _issues(path: Path) -> list[Issue]:
    try:
        document = read_document(path)
    except PricingError as error:
        return [Issue("", error.code, error.detail)]
    return validate_scenario(
        document, resolve=resolver_for(path), expected_required=not expected_path(path).exists()
    )


def load(path: Path) -> Scenario:
    """The scenario of a file; raises InvalidScenario or UnreadableFile.

    Its own expectation may be absent: a recorded one beside it, or none, is the report's concern.
    """
    return read_scenario(read_document(path), resolve=resolver_for(path), expected_required=False)


def run(
    paths: Sequence[Path], *, out: Path, record: bool = False, seed: str | None = None
) -> list[Ran]:
    """Run scenarios and write `<name>.result.json` under `out`, folders kept.

    `record` also writes `<name>.expected.json` beside the scenario. Results are exact functions of
    the scenario, so `seed` decides nothing; it is kept in the result for the record.
    """
    return [_run_one(path, paths, out, record, seed) for path in find_scenarios(paths)]


def _run_one(path: Path, roots: Sequence[Path], out: Path, record: bool, seed: str | None) -> Ran:
    try:
        outcome = run_scenario(load(path))
    except InvalidScenario as error:
        return Ran(path, None, None, error.issues)
    except PricingError as error:
        return Ran(path, None, None, (Issue(error.path, error.code, error.detail),))
    result = outcome.result() if seed is None else {**outcome.result(), "seed": seed}
    target = result_path(path, roots, out)
    write_json(target, result)
    if record:
        write_json(expected_path(path), recorded(outcome))
    return Ran(path, target, outcome)


def recorded(outcome: Outcome) -> dict[str, Any]:
    """The expectation that a run records: every amount and every line."""
    wire = outcome.invoice.as_dict()
    amounts = ("total", "subtotal", "tax", "credits", "discounts", "currency")
    lines = [
        {
            "metric": line["metric"] or line["description"],
            "quantity": line["quantity"],
            "unitPrice": line["unitPrice"],
            "subtotal": line["subtotal"],
        }
        for line in wire["lineItems"]
    ]
    return {**{name: wire[name] for name in amounts}, "lineItems": lines}


def report(paths: Sequence[Path], *, results: Path | None = None) -> Report:
    """Compare results with the expectations inline and recorded beside each scenario.

    With `results` the files of an earlier `run` are compared; a missing one is a difference.
    Without it the scenarios are run now. A scenario that expects nothing is a difference too.
    """
    entries = [_entry(path, paths, results) for path in find_scenarios(paths)]
    return Report(tuple(entries))


def _entry(path: Path, roots: Sequence[Path], results: Path | None) -> Entry:
    try:
        scenario = load(path)
    except InvalidScenario as error:
        texts = tuple(issue.text() for issue in error.issues)
        return Entry(path.name, path, Status.INVALID, texts)
    except PricingError as error:
        return Entry(path.name, path, Status.INVALID, (error.detail,))
    try:
        expectations = _expectations(path, scenario)
        result = _result(path, scenario, roots, results)
    except PricingError as error:
        return Entry(scenario.name, path, Status.DIFF, (str(error),))
    if not expectations:
        return Entry(scenario.name, path, Status.DIFF, ("nothing is expected of this scenario",))
    return _compared(path, scenario.name, expectations, result, scenario.tolerances)


def _compared(
    path: Path,
    name: str,
    expectations: Sequence[Expected],
    result: Mapping[str, Any],
    tolerances: Tolerances,
) -> Entry:
    try:
        compared = [compare(expected, result, tolerances) for expected in expectations]
    except PricingError as error:
        return Entry(name, path, Status.DIFF, (f"result file: {error}",))
    whole = Comparison(
        tuple({item.text(): item for one in compared for item in one.differences}.values()),
        tuple(dict.fromkeys(name for one in compared for name in one.compared)),
    )
    return Entry(
        scenario=name,
        path=path,
        status=Status.OK if whole.passed else Status.DIFF,
        differences=tuple(item.text() for item in whole.differences),
        details=tuple(item.as_dict() for item in whole.differences),
        compared=whole.compared,
    )


def _expectations(path: Path, scenario: Scenario) -> list[Expected]:
    found = [] if scenario.expected is None else [scenario.expected]
    beside = expected_path(path)
    if beside.exists():
        found.append(read_expected(read_document(beside), beside.name))
    return found


def _result(
    path: Path, scenario: Scenario, roots: Sequence[Path], results: Path | None
) -> Mapping[str, Any]:
    if results is None:
        return run_scenario(scenario).result()
    document = read_document(result_path(path, roots, results))
    return document if isinstance(document, Mapping) else {}
