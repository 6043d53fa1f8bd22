"""The wheel: small, client only, importable where neither Django nor the server is."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = """
import sys
import stripemeter
assert "httpx" not in sys.modules, "importing stripemeter must stay free"
from stripemeter import (
    AsyncStripeMeterClient, AsyncStripemeterClient, StripeMeterClient, StripemeterClient,
)
assert StripeMeterClient is StripemeterClient
assert AsyncStripeMeterClient is AsyncStripemeterClient
for name in stripemeter.__all__:
    getattr(stripemeter, name)
assert "django" not in sys.modules
StripeMeterClient("http://127.0.0.1:1", "acme").close()
print(stripemeter.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_the_client_and_nothing_of_the_server(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        needs = [
            line for line in archive.read(metadata).decode().splitlines()
            if line.startswith("Requires-Dist")
        ]  # fmt: skip
    outside = {name for name in names if not name.startswith("stripemeter/sdk/")}
    assert outside == {"stripemeter/__init__.py", "stripemeter/py.typed"}
    assert "stripemeter/sdk/client.py" in names
    assert [line for line in needs if "httpx" not in line] == []
    assert wheel.stat().st_size < 100_000


def test_the_wheel_works_in_a_fresh_environment(wheel, tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    done = subprocess.run(
        [python, "-c", OUTSIDE], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "env") in done.stdout


def test_importing_the_package_loads_neither_httpx_nor_django():
    code = "import sys, stripemeter; print('httpx' in sys.modules, 'django' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]


def test_every_lazy_name_resolves_and_unknown_names_do_not():
    import stripemeter

    assert {name for name in stripemeter.__all__ if not hasattr(stripemeter, name)} == set()
    assert set(stripemeter.__all__) <= set(dir(stripemeter))
    assert not hasattr(stripemeter, "Nonsense")
