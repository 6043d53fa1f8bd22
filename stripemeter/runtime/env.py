"""Addresses and secrets of the embedded parts, kept where every later command finds them.

Settings import this module first, so it imports nothing but the standard library. A
variable that is set outside always wins, together with its whole group: a database of
your own is never mixed with the embedded owner role, a Stripe key of your own never
goes to the sandbox.
"""

import contextlib
import os
import secrets
import tempfile
from collections.abc import Mapping, MutableMapping
from pathlib import Path

#: Variables that belong together: one set outside keeps the whole group outside.
GROUPS: dict[str, tuple[str, ...]] = {
    "postgres": ("DATABASE_URL", "DATABASE_OWNER_URL"),
    "redis": ("REDIS_URL",),
    "stripe": (
        "STRIPE_SECRET_KEY",
        "STRIPE_TEST_SECRET_KEY",
        "STRIPE_API_BASE",
        "STRIPE_METER_EVENTS_BASE",
        "STRIPE_WEBHOOK_SECRET",
    ),
}
#: Secrets of settings that are made once for this checkout.
GENERATED_SECRETS = (
    "STRIPEMETER_SECRET_KEY",
    "STRIPEMETER_API_KEY_PEPPER",
    "STRIPEMETER_WIDGET_SIGNING_KEY",
)
_ROOT = Path(__file__).resolve().parents[2]


def runtime_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the embedded parts keep their files."""
    return Path(environ.get("STRIPEMETER_RUNTIME_DIR") or _ROOT / ".stripemeter").absolute()


def is_set(environ: Mapping[str, str], name: str) -> bool:
    """Whether ``name`` or ``name_FILE`` has a value."""
    return bool(environ.get(name) or environ.get(f"{name}_FILE"))


def outside_groups(environ: Mapping[str, str]) -> set[str]:
    """Groups that the environment provides itself."""
    return {
        group for group, names in GROUPS.items() if any(is_set(environ, name) for name in names)
    }


def load(environ: MutableMapping[str, str] = os.environ) -> None:
    """Fill ``environ`` with what the embedded runtime of this checkout wrote down.

    Nothing happens in production, in tests (STRIPEMETER_IGNORE_RUNTIME) and when no
    runtime was ever started here.
    """
    if environ.get("STRIPEMETER_ENV") == "production":
        return
    if environ.get("STRIPEMETER_IGNORE_RUNTIME", "0").lower() in {"1", "true", "yes", "on"}:
        return
    outside = outside_groups(environ)
    kept_out = {name for group in outside for name in GROUPS[group]}
    for name, value in read_values(runtime_folder(environ) / "runtime.env").items():
        if name not in kept_out and not is_set(environ, name):
            environ[name] = value


def read_values(path: Path) -> dict[str, str]:
    """``NAME=value`` lines of a file; empty when there is none."""
    values = {}
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text(encoding="utf-8").splitlines():
            name, separator, value = line.partition("=")
            if separator and not name.startswith("#"):
                values[name] = value
    return values


def write_values(path: Path, values: Mapping[str, str], *, comment: str = "") -> None:
    """Replace ``path`` in one step, readable by its owner only."""
    assert not any("\n" in name + value for name, value in values.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"# {comment}"] if comment else []
    lines += [f"{name}={value}" for name, value in values.items()]
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write("\n".join(lines) + "\n")
    Path(scratch).replace(path)


def generated_secrets(folder: Path, extra: tuple[str, ...] = ()) -> dict[str, str]:
    """The secrets of this checkout: made at the first call, the same ever after."""
    path = folder / "secrets.env"
    values = read_values(path)
    missing = [name for name in (*GENERATED_SECRETS, *extra) if name not in values]
    if missing:
        values |= {name: secrets.token_urlsafe(36) for name in missing}
        write_values(path, values, comment="Made once by `manage.py up`. Keep it private.")
    return values
