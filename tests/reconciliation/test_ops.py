"""Alert rules, runbooks and dashboard belong together and speak of series that exist."""

import json
import re
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest
import yaml
from prometheus_client import REGISTRY

from billing import metrics as billing_metrics
from reconciliation import metrics as reconciliation_metrics
from stripemeter.lib import metrics

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "ops/prometheus/stripemeter.rules.yml"
RUNBOOKS = ROOT / "docs/runbooks"
DASHBOARD = ROOT / "ops/grafana/stripemeter.json"


def alerts():
    document = yaml.safe_load(RULES.read_text("utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def headings():
    """Heading anchor to its text, over all runbooks."""
    found = {}
    for file in sorted(RUNBOOKS.glob("*.md")):
        for part in re.split(r"^## ", file.read_text("utf-8"), flags=re.M)[1:]:
            name, _, text = part.partition("\n")
            found[f"docs/runbooks/{file.name}#{name.strip().lower()}"] = text
    return found


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_every_alert_has_a_heading_that_says_what_to_do(alert):
    text = headings()[alert["annotations"]["runbook"]]
    for word in ("**Meaning.**", "**Look.**", "**Repair.**", "**Prove.**"):
        assert word in text


def test_every_heading_has_an_alert():
    assert set(headings()) == {alert["annotations"]["runbook"] for alert in alerts()}


def known_series() -> set[str]:
    assert billing_metrics
    assert reconciliation_metrics
    names = set(metrics.scraped_gauges)
    for family in REGISTRY.collect():
        names |= {family.name, f"{family.name}_total", f"{family.name}_bucket"}
    return names


def series_in(expression: str) -> set[str]:
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(?:by|on) \([^)]*\)", "", expression)
    return {word for word in re.findall(r"[a-z][a-z0-9_]{6,}", bare) if "_" in word} - {
        "histogram_quantile"
    }


def test_rules_and_dashboard_name_series_that_exist():
    known = known_series()
    board = json.loads(DASHBOARD.read_text("utf-8"))
    expressions = [alert["expr"] for alert in alerts()]
    expressions += [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    for expression in expressions:
        assert series_in(expression) <= known, expression


def test_promtool_accepts_the_rules_and_their_tests():
    promtool = shutil.which("promtool")
    if promtool is None:
        warnings.warn("promtool is not installed: the rules are NOT checked", stacklevel=1)
        pytest.skip("promtool is absent (Debian: apt-get install prometheus)")
    for command in (
        ["check", "rules", RULES.name],
        ["test", "rules", "stripemeter.rules.test.yml"],
    ):
        done = subprocess.run(
            [promtool, *command], cwd=RULES.parent, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
