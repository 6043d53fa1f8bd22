"""The files of the tree, as the style tests see them."""

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from tests.support.environment import ROOT

#: The packages of the service.
PACKAGES = (
    "stripemeter", "ledger", "counters", "billing", "reconciliation", "widget",
)  # fmt: skip
_GENERATED = ("stripemeter/djstripe_migrations/",)


@dataclass(frozen=True)
class Source:
    """One Python file."""

    path: Path

    @property
    def name(self) -> str:
        """Path from the root of the repository."""
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        """Its text."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.text, filename=self.name)


@lru_cache
def tracked_files() -> tuple[str, ...]:
    """Files of the repository: those git knows, or every file outside ignored folders."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        names = listed.stdout.splitlines()
    else:  # an unpacked archive
        hidden = {".venv", ".git", ".stripemeter", "node_modules", "staticfiles", "__pycache__"}
        names = [
            path.relative_to(ROOT).as_posix()
            for path in ROOT.rglob("*")
            if path.is_file() and not hidden & set(path.relative_to(ROOT).parts)
        ]
    return tuple(sorted(name for name in set(names) if (ROOT / name).is_file()))


@lru_cache
def _source(name: str) -> Source:
    return Source(ROOT / name)


def python_sources(*packages: str) -> Iterator[Source]:
    """Our Python files below these folders, generated ones excepted."""
    for name in tracked_files():
        ours = name.endswith(".py") and name.split("/")[0] in packages
        if ours and not name.startswith(_GENERATED):
            yield _source(name)
