"""The sim command over real files: output, files written, exit codes."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from billing.simulation.cli import sim
from tests.simulation.documents import inputs, item, scenario, write

EXAMPLES = Path(__file__).parents[2] / "examples" / "scenarios"

YAML = """
metadata: {name: from yaml, version: 1.10}
inputs:
  customerId: no
  periodStart: 2025-01-01
  periodEnd: 2025-02-01T00:00:00Z
  usageItems:
    - metric: api_calls
      quantity: 010
      priceConfig: {model: flat, currency: USD, unitPrice: 0.1}
expected: {total: 1.0}
"""


def call(*arguments: object) -> Result:
    return CliRunner().invoke(sim, [str(argument) for argument in arguments])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """One good JSON scenario, one that differs in a YAML file two folders down."""
    write(tmp_path / "good.sim.json", scenario())
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "other.sim.yaml").write_text(YAML.replace("total: 1.0", "total: 2"), encoding="utf-8")
    (tmp_path / "readme.json").write_text("{}", encoding="utf-8")
    return tmp_path


def test_validate_looks_below_and_at_yaml(tree: Path) -> None:
    done = call("validate", "--dir", tree)
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        f"OK: {tree / 'a' / 'b' / 'other.sim.yaml'}",
        f"OK: {tree / 'good.sim.json'}",
    ]


def test_validate_names_the_issues_and_fails(tmp_path: Path) -> None:
    bad = write(tmp_path / "bad.sim.json", scenario(inputs=inputs(usageItems=[item(-1)])))
    done = call("validate", "--scenario", bad)
    assert done.exit_code == 1
    assert "inputs.usageItems[0].quantity: must not be negative" in done.output


@pytest.mark.parametrize("command", ["validate", "run", "report"])
def test_no_target_fails(command: str, tmp_path: Path) -> None:
    assert call(command).exit_code == 1
    assert call(command, "--dir", tmp_path).exit_code == 1
    missing = call(command, "--scenario", tmp_path / "missing.sim.json")
    assert missing.exit_code == 1
    assert "does not exist" in missing.output


def test_run_writes_results_and_keeps_folders(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert call("run", "--dir", tree, "--out", out, "--seed", "7").exit_code == 0
    result = json.loads((out / "good.result.json").read_text())
    assert (result["total"], result["seed"], result["scenario"]) == (10, "7", "basic flat")
    other = json.loads((out / "a" / "b" / "other.result.json").read_text())
    assert (other["total"], other["customerId"]) == (1, "no")


def test_run_is_reproducible_to_the_byte(tree: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        call("run", "--dir", tree, "--out", tmp_path / name)
    one, two = (tmp_path / name / "good.result.json" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_run_fails_on_an_invalid_scenario_but_runs_the_rest(tree: Path, tmp_path: Path) -> None:
    write(tree / "bad.sim.json", scenario(inputs={}))
    done = call("run", "--dir", tree, "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert (tmp_path / "out" / "good.result.json").exists()


def test_report_compares_inline_expectations(tree: Path) -> None:
    done = call("report", "--dir", tree)
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        "DIFF: from yaml",
        "  - total: expected 2, got 1",
        "OK: basic flat",
        "2 scenarios, 1 ok, 1 with differences",
    ]
    assert call("report", "--dir", tree, "--fail-on-diff").exit_code == 1


def test_a_recorded_expectation_catches_a_changed_price(tmp_path: Path) -> None:
    path = write(tmp_path / "s.sim.json", scenario())
    assert call("run", "--scenario", path, "--out", tmp_path / "out", "--record").exit_code == 0
    assert json.loads((tmp_path / "s.expected.json").read_text())["lineItems"][0]["subtotal"] == 10
    assert call("report", "--scenario", path, "--fail-on-diff").exit_code == 0

    write(path, scenario(inputs=inputs(usageItems=[item(unitPrice=0.02)]), expected={"total": 20}))
    done = call("report", "--scenario", path, "--fail-on-diff")
    assert done.exit_code == 1
    assert "lineItem.api_calls.subtotal: expected 10, got 20" in done.output


def test_a_whole_result_serves_as_an_expectation(tmp_path: Path) -> None:
    given = inputs(fixedFees=[{"description": "base", "amount": 5}])
    path = write(tmp_path / "s.sim.json", scenario(rules="stripe", inputs=given, expected=None))
    call("run", "--scenario", path, "--out", tmp_path)
    (tmp_path / "s.result.json").rename(tmp_path / "s.expected.json")
    assert call("report", "--scenario", path, "--fail-on-diff").exit_code == 0
    write(path, scenario(rules="stripe", inputs=inputs(), expected=None))
    assert "lineItem.base" in call("report", "--scenario", path).output


def test_an_expectation_may_live_in_the_recorded_file_only(tmp_path: Path) -> None:
    document = scenario()
    del document["expected"]
    path = write(tmp_path / "s.sim.json", document)
    assert call("validate", "--scenario", path).exit_code == 1
    assert "nothing is expected" in call("report", "--scenario", path).output
    call("run", "--scenario", path, "--out", tmp_path / "out", "--record")
    assert call("validate", "--scenario", path).exit_code == 0
    assert call("report", "--scenario", path, "--fail-on-diff").exit_code == 0


def test_report_reads_results_of_an_earlier_run(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    call("run", "--dir", tree, "--out", out)
    path = out / "good.result.json"
    path.write_text(path.read_text().replace('"total": 10,', '"total": 10.01,'))
    done = call("report", "--dir", tree, "--results", out)
    assert "total: expected 10, got 10.01" in done.output
    path.unlink()
    assert "No such file" in call("report", "--dir", tree, "--results", out).output


def test_report_counts_an_invalid_file_as_a_difference(tmp_path: Path) -> None:
    (tmp_path / "x.sim.json").write_text('{"metadata": NaN}', encoding="utf-8")
    done = call("report", "--dir", tmp_path, "--fail-on-diff")
    assert done.exit_code == 1
    assert "INVALID: x.sim.json" in done.output


def test_report_as_json(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "report" / "r.json"
    assert call("report", "--dir", tree, "--format", "json", "--out", out).output == ""
    document = json.loads(out.read_text())
    assert document["summary"] == {"total": 2, "diffs": 1, "ok": 1}
    assert document["results"][0]["diffs"] == ["total: expected 2, got 1"]
    assert document["results"][0]["details"][0]["difference"] == -1
    assert document["results"][1]["compared"] == ["total"]


def test_report_as_markdown_and_html_escape_names(tmp_path: Path) -> None:
    write(tmp_path / "s.sim.json", scenario(metadata={"name": "<b>|x"}))
    assert "| &lt;b&gt;\\|x | OK |" in call("report", "--dir", tmp_path, "--format", "md").output
    page = call("report", "--dir", tmp_path, "--format", "html").output
    assert "<td>&lt;b&gt;|x</td><td>OK</td>" in page


def test_report_as_junit(tree: Path) -> None:
    (tree / "broken.sim.yml").write_text("a: [", encoding="utf-8")
    suite = ElementTree.fromstring(call("report", "--dir", tree, "--format", "junit").output)
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    messages = [case.find("failure") for case in suite if case.find("failure") is not None]
    assert [item.get("message") for item in messages] == ["total: expected 2, got 1"]


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\n"
        + "".join(
            f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n"
            for before, name in zip("bcdef", "cdefg", strict=True)
        ),
        "a: &a [*a]\n",
        "metadata: {name: x}\nmetadata: {name: y}\n",
        "!!python/object/apply:os.system [id]\n",
        "1: x\n",
    ],
    ids=["alias bomb", "alias of itself", "duplicate name", "python object", "number as name"],
)
def test_hostile_yaml_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.sim.yaml").write_text(text, encoding="utf-8")
    done = call("validate", "--dir", tmp_path)
    assert done.exit_code == 1
    assert "INVALID" in done.output


def test_a_reference_stays_below_its_scenario(tmp_path: Path) -> None:
    write(tmp_path / "secret.json", {"model": "flat", "currency": "USD", "unitPrice": 1})
    write(tmp_path / "s" / "x.sim.json", scenario(model={"reference": "../secret.json"}))
    done = call("validate", "--dir", tmp_path / "s")
    assert "model.reference: must stay below" in done.output


def test_the_examples_come_out_as_they_say() -> None:
    done = call("report", "--dir", EXAMPLES, "--fail-on-diff")
    assert (done.exit_code, done.output.splitlines()[-1]) == (
        0,
        "4 scenarios, 4 ok, 0 with differences",
    )
