"""Every block that a page marks as runnable runs, as printed, against a live server.

Only addresses are replaced: the demo's by the test server's, the virtualenv's by the
Python that runs the tests.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from billing.stripe_sandbox.process import SandboxProcess
from counters.services.fold import fold_everything
from stripemeter.demo.catalog import METRICS, DemoTenant
from stripemeter.demo.load import Api, Loader
from stripemeter.demo.stripe_side import StripeSide
from stripemeter.lib import clock
from stripemeter.models import beat_heart
from tests.builders.tenancy import make_caller
from tests.docs.pages import Block, pages
from tests.support.cluster import Cluster
from tests.support.environment import ROOT
from tests.support.processes import HttpProcess, granian

BLOCKS = [block for page in pages() for block in page.runnable]
DEMO = DemoTenant("demo", "Demo", ("cust_northwind", "cust_initech"), METRICS[:2])


@pytest.fixture(scope="module")
def run(
    django_db_setup: None,
    django_db_blocker: Any,
    cluster: Cluster,
    sandbox_process: SandboxProcess,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[Block], "subprocess.CompletedProcess[str]"]]:
    """Runs blocks against a demo of two customers that is open on loopback, as `make demo` is."""
    from tests.conftest import RUN

    folder = tmp_path_factory.mktemp("docs")
    stripe = {
        "STRIPE_API_BASE": sandbox_process.url,
        "STRIPE_METER_EVENTS_BASE": sandbox_process.url,
    }
    server = HttpProcess(
        granian, folder / "web.log", health="/health/live",
        env={**stripe, "STRIPEMETER_OPEN_DEMO_TENANT": "demo"},
    )  # fmt: skip
    with django_db_blocker.unblock():
        if sandbox_process.process is None or sandbox_process.process.poll() is not None:
            sandbox_process.start()  # an earlier test killed it
        sandbox_process.reset()
        server.start()
        _fill(server, sandbox_process)
        environment = {
            **os.environ, **stripe, "STRIPEMETER_URL": server.url, "WAIT": "0",
            "DJANGO_SETTINGS_MODULE": "stripemeter.settings", "PATH": _path(folder),
        }  # fmt: skip
        replaced = {
            "http://127.0.0.1:3000": server.url,
            "http://127.0.0.1:12111": sandbox_process.url,
            ".venv/bin/python": sys.executable,
            ".venv/bin/stripemeter": f"{sys.executable} -m stripemeter.cli",
        }

        def run_block(block: Block) -> "subprocess.CompletedProcess[str]":
            # Doctor and readiness look at what workers would have done by now.
            fold_everything(now=clock.now())
            text = block.text
            for printed, here in replaced.items():
                text = text.replace(printed, here)
            shell = ["bash", "-euo", "pipefail", "-c"]
            command = [sys.executable, "-c"] if block.language == "python" else shell
            return subprocess.run(
                [*command, text], cwd=ROOT, env=environment, text=True, check=False,
                stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
            )  # fmt: skip

        try:
            yield run_block
        finally:
            server.stop(patience_s=3)
            connections.close_all()
            cluster.reset(RUN.database)


def _fill(server: HttpProcess, sandbox: SandboxProcess) -> None:
    caller = make_caller("demo")
    now = clock.now()
    for component in ("beat", "worker"):
        beat_heart(component, now=now + timedelta(hours=1))  # nobody beats here
    with (
        Api.connect(server.url, "demo", caller.plaintext) as api,
        StripeSide.connect(sandbox.url, os.environ["STRIPE_SECRET_KEY"]) as live,
    ):
        Loader(api=api, tenant=DEMO, live=live, test=None, say=print).load(now=now)


def _path(folder: Path) -> str:
    """A PATH on which curl ends with an error code when it is refused."""
    wrapper = folder / "bin" / "curl"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("curl")} --fail-with-body "$@"\n')
    wrapper.chmod(0o755)
    return f"{wrapper.parent}:{os.environ['PATH']}"


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}:{block.line}")
def test_each_runnable_block_runs_as_printed(
    block: Block, run: Callable[[Block], "subprocess.CompletedProcess[str]"]
) -> None:
    done = run(block)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.strip() or block.language == "python", "it printed nothing"


def test_there_are_blocks_to_run() -> None:
    assert {block.language for block in BLOCKS} == {"sh", "python"}
    assert {"README.md", "docs/tour.md"} <= {block.page for block in BLOCKS}
