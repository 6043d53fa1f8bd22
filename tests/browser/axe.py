"""axe-core over the page as it stands."""

from functools import cache
from pathlib import Path
from typing import Any

_RUN = """() => axe.run(document, {
    resultTypes: ["violations"],
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}).then((found) => found.violations.map((each) => ({
    id: each.id, impact: each.impact,
    nodes: each.nodes.slice(0, 3).map(
        (node) => node.html.slice(0, 160) + " " + (node.any[0]?.message ?? "")),
})))"""


@cache
def _script() -> str:
    import axe_playwright_python

    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()


def serious_findings(page: Any) -> list[str]:
    """What axe calls serious or critical."""
    page.evaluate(_script())
    return [
        f"{found['id']} {found['nodes']}"
        for found in page.evaluate(_RUN)
        if found["impact"] in {"serious", "critical"}
    ]
