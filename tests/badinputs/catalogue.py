"""Reads the catalogue of bad requests: a JSON file beside the repository, if there is one."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.environment import ROOT


def path() -> Path:
    """Where the catalogue is: ``$STRIPEMETER_SHARED`` or ``../shared`` beside the repository."""
    folder = os.environ.get("STRIPEMETER_SHARED") or str(ROOT.parent / "shared")
    return Path(folder) / "bad-inputs.json"


@dataclass(frozen=True, slots=True)
class Case:
    """One bad request (or a few of one kind) and the answers that are right."""

    id: str
    area: str
    method: str
    path: str
    headers: dict[str, Any]
    body: str
    expect_status: list[int]
    note: str = ""
    check: list[str] = field(default_factory=list)
    generate: dict[str, Any] | None = None
    body_encoding: str = "utf-8"
    transport: str = ""
    pace_ms: int = 0
    after: list[str] = field(default_factory=list)
    repeat: Any = 1
    parallel: int = 0
    fixture: str = ""

    def __str__(self) -> str:
        return self.id


def load() -> list[Case]:
    """Every case, in the catalogue's order; empty if there is no catalogue."""
    if not path().exists():
        return []
    document = json.loads(path().read_text(encoding="utf-8"))
    return [Case(**case) for case in document["cases"]]
