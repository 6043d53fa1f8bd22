"""Says at the end which assertions of the catalogue have no meaning here yet."""

from collections import defaultdict
from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line a check."""
    found: dict[str, list[str]] = defaultdict(list)
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if name == "unchecked":
                for check in value.split(","):
                    found[check].append(report.nodeid.partition("[")[2].rstrip("]"))
    for check, cases in sorted(found.items()):
        terminalreporter.write_line(f"not checked yet: {check} ({', '.join(cases)})")
