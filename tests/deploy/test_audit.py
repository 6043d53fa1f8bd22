"""An audit of dependencies fails on a vulnerability and never passes itself off as done."""

import importlib.util
import json
from typing import Any

import pytest

from tests.support.environment import ROOT


@pytest.fixture(scope="module")
def audit() -> Any:
    spec = importlib.util.spec_from_file_location("audit", ROOT / "ops/scripts/audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answer(*vulnerabilities: dict[str, Any]) -> str:
    package = {"name": "idna", "version": "3.10", "vulns": list(vulnerabilities)}
    return json.dumps({"dependencies": [package], "fixes": []})


def test_a_clean_answer_passes(audit: Any) -> None:
    assert audit.verdict(0, answer(), "") == (
        0, "1 locked dependencies, none with a known vulnerability",
    )  # fmt: skip


def test_a_vulnerability_fails(audit: Any) -> None:
    code, text = audit.verdict(1, answer({"id": "PYSEC-1", "fix_versions": ["3.11"]}), "")
    assert (code, text) == (1, "idna 3.10: PYSEC-1, mended in 3.11")


def test_an_unreachable_database_fails_nothing_and_is_said_loudly(audit: Any) -> None:
    code, text = audit.verdict(1, "", "requests.exceptions.ConnectionError: NameResolutionError")
    assert code == 0
    assert "NOT AUDITED" in text


def test_any_other_trouble_fails(audit: Any) -> None:
    assert audit.verdict(2, "", "usage: pip-audit")[0] == 2
    assert audit.verdict(0, "", "")[0] == 1
