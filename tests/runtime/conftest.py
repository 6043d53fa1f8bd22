"""Folders for servers of their own, cleaned up whatever happens."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stripemeter.runtime.parts import clean


@contextmanager
def runtime_folder() -> Iterator[Path]:
    """A runtime folder that an unprivileged server account can walk into."""
    path = Path(tempfile.mkdtemp(prefix="stripemeter-runtime-", dir="/tmp"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        clean({**os.environ, "STRIPEMETER_RUNTIME_DIR": str(path)})


@pytest.fixture
def folder() -> Iterator[Path]:
    """A runtime folder for one test."""
    with runtime_folder() as path:
        yield path
