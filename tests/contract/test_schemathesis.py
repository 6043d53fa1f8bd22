"""Whatever is sent to any route, the answer is one that the description names, and no 5xx.

The small run takes seconds. The large one (``-m large``) is stateful as well; it takes
``SCHEMATHESIS_EXAMPLES`` examples an operation (default 60), ``SCHEMATHESIS_TAG`` picks one
part of the surface, ``SCHEMATHESIS_SECONDS`` bounds it, ``SCHEMATHESIS_SEED`` repeats it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.contract.conftest import Live
from tests.support.environment import ROOT

#: What every answer is held to. Positive data may be refused here by rules that no schema
#: can say (an unknown id, another tenant), so acceptance is not asked for. Wrong keys are the
#: tenant matrix's job: from one address so many of them are rightly answered 429 here.
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_headers_conformance", "response_schema_conformance", "unsupported_method",
    "allow_header_conformance", "use_after_free",
)  # fmt: skip
pytestmark = pytest.mark.xdist_group("contract")


def run(live: Live, folder: Path, *options: str) -> tuple[str, dict[str, Any]]:
    """Run schemathesis against the live server; what it printed, and its report."""
    report = folder / "report.json"
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{live.url}/v1/openapi.json",
        "--url", live.url, "--header", f"Authorization: {live.headers['Authorization']}",
        "--exclude-path", "/health/ready",  # no worker runs here, so it is rightly 503
        "--checks", ",".join(CHECKS), "--suppress-health-check", "all", "--warnings", "off",
        "--no-color", "--report", "json", "--report-json-path", str(report), *options,
    ]  # fmt: skip
    env = os.environ | {
        "SCHEMATHESIS_HOOKS": "tests.contract.hooks",
        "PYTHONPATH": str(ROOT),
        "DJANGO_SETTINGS_MODULE": "",
    }
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=1500
    )
    found = json.loads(report.read_text()) if report.exists() else {}
    return done.stdout + done.stderr, found | {"exit": done.returncode}


def test_no_route_answers_what_the_description_does_not_name(live: Live, tmp_path: Path) -> None:
    said, report = run(live, tmp_path, "--phases", "examples,fuzzing", "-n", "2", "--seed", "1")
    assert report["exit"] == 0, said
    assert "request.failed" not in live.server.output()


@pytest.mark.large
def test_the_large_run_finds_nothing_either(
    live: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["-n", os.environ.get("SCHEMATHESIS_EXAMPLES", "60"), "--continue-on-failure"]
    if "SCHEMATHESIS_SECONDS" in os.environ:
        options += ["--max-time", os.environ["SCHEMATHESIS_SECONDS"]]
    if "SCHEMATHESIS_SEED" in os.environ:
        options += ["--seed", os.environ["SCHEMATHESIS_SEED"]]
    if "SCHEMATHESIS_TAG" in os.environ:
        options += ["--include-tag", os.environ["SCHEMATHESIS_TAG"]]
    if "SCHEMATHESIS_PHASES" in os.environ:
        options += ["--phases", os.environ["SCHEMATHESIS_PHASES"]]
    said, report = run(live, tmp_path, *options)
    with capsys.disabled():
        print(said[-1500:])
    assert report["exit"] == 0, said
    assert "request.failed" not in live.server.output()
