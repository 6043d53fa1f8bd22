"""A report as text, JSON, Markdown, HTML or JUnit XML."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from html import escape
from typing import Final

from billing.simulation.engine import Entry, Report, Status
from billing.simulation.files import pretty_json


def as_table(report: Report) -> str:
    """`OK: name`, or `DIFF: name` with one line per difference; then the sums."""
    lines = []
    for entry in report.entries:
        lines.append(f"{entry.status.upper()}: {entry.scenario}")
        lines += [f"  - {text}" for text in entry.differences]
    lines.append(f"{report.total} scenarios, {report.ok} ok, {report.diffs} with differences")
    return "\n".join(lines) + "\n"


def as_json(report: Report) -> str:
    """`{summary: {total, diffs, ok}, results: [{scenario, diffs[]}]}` with paths and details."""
    return pretty_json(
        {
            "summary": {"total": report.total, "diffs": report.diffs, "ok": report.ok},
            "results": [
                {
                    "scenario": entry.scenario,
                    "diffs": list(entry.differences),
                    "status": entry.status.value,
                    "file": str(entry.path),
                    "details": list(entry.details),
                    "compared": list(entry.compared),
                }
                for entry in report.entries
            ],
        }
    ).decode()


def as_markdown(report: Report) -> str:
    """A table `| Scenario | Result |` and the sums."""
    lines = ["| Scenario | Result |", "|---|---|"]
    for entry in report.entries:
        cells = [entry.status.upper(), *entry.differences]
        lines.append(f"| {_cell(entry.scenario)} | {'<br>'.join(_cell(text) for text in cells)} |")
    lines += ["", f"{report.total} scenarios, {report.ok} ok, {report.diffs} with differences"]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return escape(text, quote=False).replace("|", "\\|").replace("\n", " ")


def as_html(report: Report) -> str:
    """A page with Scenario, Status and Details; no script, no outside resource."""
    rows = "\n".join(_html_row(entry) for entry in report.entries)
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en"><head><meta charset="utf-8"><title>Simulation report</title></head>\n'
        "<body><h1>Simulation report</h1>\n"
        f"<p>{report.total} scenarios, {report.ok} ok, {report.diffs} with differences</p>\n"
        "<table><thead><tr><th>Scenario</th><th>Status</th><th>Details</th></tr></thead><tbody>\n"
        f"{rows}\n</tbody></table></body></html>\n"
    )


def _html_row(entry: Entry) -> str:
    details = "".join(f"<li>{escape(text)}</li>" for text in entry.differences)
    shown = f"<ul>{details}</ul>" if details else ""
    return (
        f"<tr><td>{escape(entry.scenario)}</td><td>{entry.status.upper()}</td><td>{shown}</td></tr>"
    )


def as_junit(report: Report) -> str:
    """JUnit XML: a test case per scenario; invalid files are errors, differences failures."""
    invalid = sum(entry.status is Status.INVALID for entry in report.entries)
    suite = ElementTree.Element(
        "testsuite",
        name="stripemeter simulations",
        tests=str(report.total),
        failures=str(report.diffs - invalid),
        errors=str(invalid),
    )
    for entry in report.entries:
        case = ElementTree.SubElement(
            suite, "testcase", name=entry.scenario, classname=str(entry.path)
        )
        if entry.status is not Status.OK:
            kind = "error" if entry.status is Status.INVALID else "failure"
            message = entry.differences[0] if entry.differences else ""
            ElementTree.SubElement(case, kind, message=message).text = "\n".join(entry.differences)
    ElementTree.indent(suite)
    body = ElementTree.tostring(suite, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{body}\n'


FORMATS: Final[dict[str, Callable[[Report], str]]] = {
    "table": as_table,
    "json": as_json,
    "md": as_markdown,
    "html": as_html,
    "junit": as_junit,
}
