"""Files that the developers share and users do not have: found or skipped, loudly."""

import json
import os
from pathlib import Path
from typing import Any

import pytest


def shared_folder() -> Path:
    """The shared folder; skips the test where there is none."""
    root = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("STRIPEMETER_SHARED") or root.parent / "shared")
    if not folder.is_dir():
        pytest.skip("the shared folder is absent (set STRIPEMETER_SHARED)")
    return folder


def bad_inputs(area: str) -> list[dict[str, Any]]:
    """The published bad inputs of ``area``; none where the folder is absent."""
    root = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("STRIPEMETER_SHARED") or root.parent / "shared")
    path = folder / "bad-inputs.json"
    if not path.exists():
        return []
    cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
    return [case for case in cases if case["area"] == area]
