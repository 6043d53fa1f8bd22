"""The integration examples run, and what they metered is in the ledger."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db.models import Sum

from ledger.models import Event, Metric
from stripemeter.runtime.processes import free_port
from tests.builders.tenancy import make_caller
from tests.sdk.node import ROOT
from tests.support.processes import HttpProcess, ServerProcess

EXAMPLES = ROOT / "examples" / "integrations"
REQUESTS = 25


@pytest.fixture(scope="module")
def example_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the client's wheel and what the examples run on, as the README says."""
    folder = tmp_path_factory.mktemp("examples")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel,
         "-r", EXAMPLES / "requirements.txt"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return python


@pytest.fixture
def node_example(node_package: Path, tmp_path: Path) -> Path:
    """A folder with the Node example and the built client where `npm install` puts it."""
    modules = tmp_path / "example" / "node_modules" / "@stripemeter"
    modules.mkdir(parents=True)
    (modules / "sdk-node").symlink_to(node_package)
    script = tmp_path / "example" / "server.mjs"
    script.write_bytes((EXAMPLES / "node" / "server.mjs").read_bytes())
    return script


def use(url: str, customer: str) -> list[str]:
    """Make the requests of a day: some reads, one report asked for twice. Return its statuses."""

    def ask(path: str, method: str = "GET") -> dict[str, str]:
        request = urllib.request.Request(
            url + path, method=method, headers={"X-Customer": customer}
        )
        with urllib.request.urlopen(request, timeout=240) as answer:
            return json.loads(answer.read())

    for _ in range(REQUESTS):
        assert ask("/hello") == {"hello": "world"}
    return [ask(f"/reports/{customer}", "POST")["status"] for _ in range(2)]


def end(process: ServerProcess) -> None:
    """Ask it to end and wait until it has: it delivers its buffer first."""
    os.kill(process.pid, signal.SIGTERM)
    assert process._child is not None
    process._child.wait(timeout=240)


def test_each_example_meters_what_was_asked_of_it(
    web: HttpProcess,
    start_process: Callable[..., ServerProcess],
    example_python: Path,
    node_example: Path,
) -> None:
    caller = make_caller("acme")
    environment = {
        "STRIPEMETER_URL": web.url,
        "STRIPEMETER_TENANT": "acme",
        "STRIPEMETER_API_KEY": caller.plaintext,
        "PYTHONPATH": str(EXAMPLES),
        "PYTHONSAFEPATH": "1",
        "DJANGO_SETTINGS_MODULE": "",
    }
    ports = {name: free_port() for name in ("django", "fastapi", "node")}
    commands = {
        "django": [str(example_python), str(EXAMPLES / "django_app.py"), str(ports["django"])],
        "fastapi": [
            str(example_python), "-m", "uvicorn", "fastapi_app:app",
            "--port", str(ports["fastapi"]), "--log-level", "warning",
        ],
        "node": ["node", str(node_example), str(ports["node"])],
    }  # fmt: skip
    for name, command in commands.items():
        url = f"http://127.0.0.1:{ports[name]}"
        process = start_process(command, env=environment, ready=lambda url=url: answers(url))
        assert use(url, name) == ["accepted", "duplicate"], process.output()
        end(process)
        assert "undelivered" not in process.output()
    metrics = dict(Metric.objects.values_list("id", "name"))
    rows = Event.objects.values_list("customer_ref", "metric_id").annotate(Sum("quantity"))
    totals = {(customer, metrics[metric]): total for customer, metric, total in rows}
    assert totals == {
        (name, metric): total
        for name in commands
        for metric, total in {"api_calls": REQUESTS + 2, "report_pages": 12}.items()
    }


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url + "/hello", timeout=5).close()
    except OSError:
        return False
    return True
