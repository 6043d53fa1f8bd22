"""The Node client, built in a folder of its own: parallel workers do not disturb each other."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def build(folder: Path) -> Path:
    """Copy `sdks/node`, install what the lock file names, build it; return the package's folder."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed: the Node client is not tested")
    package = folder / "sdk-node"
    skip = shutil.ignore_patterns("node_modules", "dist")
    shutil.copytree(ROOT / "sdks" / "node", package, ignore=skip)
    run(["npm", "ci", "--no-audit", "--no-fund"], package)
    run(["npm", "run", "build"], package)
    return package


def run(command: list[str], folder: Path) -> str:
    """Run a command to its end and return what it printed; its failure is the test's."""
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=540, check=False
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout
