"""The static files of production: every reference between them resolves."""

import os
import subprocess
import sys
from pathlib import Path

from tests.shell.test_production import SAFE
from tests.support.environment import ROOT


def test_static_files_collect_under_content_hashes(tmp_path: Path) -> None:
    environ = {**SAFE, "PATH": os.environ["PATH"], "STRIPEMETER_STATIC_ROOT": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "manage.py", "collectstatic", "--noinput", "-v", "0"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "staticfiles.json").exists()
