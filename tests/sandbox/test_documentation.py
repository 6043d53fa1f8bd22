"""docs/sandbox.md names everything that can be set, scripted or asked."""

import re
from pathlib import Path

from billing.stripe_sandbox import control
from billing.stripe_sandbox.behaviours import RULES
from billing.stripe_sandbox.engine import DEFAULT_SETTINGS
from billing.stripe_sandbox.faults import KINDS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "sandbox.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def test_every_kind_of_fault_is_described_and_no_other():
    rows = [line for line in section("Scripted faults").splitlines() if line.startswith("| `")]
    described = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert described == set(KINDS)


def test_every_setting_is_described_and_no_other():
    rows = [line for line in section("Settings").splitlines() if line.startswith("| `")]
    described = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert described == set(DEFAULT_SETTINGS)


def test_every_control_call_is_described():
    described = set(re.findall(r"`(GET|POST|DELETE) (\w+)", section("Control API")))
    assert described == set(control._ACTIONS)


def test_the_rules_in_the_page_are_the_rules_in_the_code():
    rows = [line for line in PAGE.splitlines() if re.match(r"\| `\w+\.\w+` \|", line)]
    expected = [
        f"| `{rule.id}` | {rule.text} | {rule.mark} | {rule.source} | "
        f"{'yes' if rule.live else 'no'} |"
        for rule in RULES
    ]
    assert rows == expected
