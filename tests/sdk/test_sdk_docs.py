"""The clients' pages: their Python blocks run, and their tables name every option there is."""

import inspect
import os
import re
import subprocess
import sys

import pytest

from stripemeter import StripeMeterClient
from tests.sdk.contract_server import ContractServer
from tests.sdk.node import ROOT

PYTHON_PAGE = (ROOT / "docs" / "sdk-python.md").read_text(encoding="utf-8")
NODE_PAGE = (ROOT / "docs" / "sdk-node.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PYTHON_PAGE, re.MULTILINE | re.DOTALL)


def options_of(page: str) -> set[str]:
    table = page.partition("## Options")[2].partition("##")[0]
    return set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))


@pytest.mark.parametrize("block", BLOCKS)
def test_each_python_block_runs(block: str, server: ContractServer) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block], cwd=ROOT, text=True, timeout=240, check=False,
        capture_output=True, env={**os.environ, "STRIPEMETER_URL": server.url},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert server.ledger


def test_there_are_blocks_to_run() -> None:
    assert len(BLOCKS) >= 3


def test_the_python_page_names_every_option() -> None:
    assert options_of(PYTHON_PAGE) == set(inspect.signature(StripeMeterClient).parameters)


def test_the_python_page_names_every_method() -> None:
    methods = {name for name in vars(StripeMeterClient) if not name.startswith("_")}
    assert {name for name in methods if f"`{name}(" not in PYTHON_PAGE} == set()


def test_the_node_page_names_every_option() -> None:
    source = (ROOT / "sdks" / "node" / "src" / "client.ts").read_text(encoding="utf-8")
    declared = source.partition("export interface ClientOptions {")[2].partition("\n}")[0]
    assert options_of(NODE_PAGE) == set(re.findall(r"^  (\w+)\??:", declared, re.MULTILINE))


def test_the_node_page_shows_code_that_runs(node_package, server: ContractServer) -> None:
    (block,) = re.findall(r"^```js\n(.*?)^```", NODE_PAGE, re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        ["node", "--input-type=module", "-e", block], cwd=node_package, text=True, timeout=240,
        capture_output=True, env={**os.environ, "STRIPEMETER_URL": server.url}, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert len(server.ledger) == 2
