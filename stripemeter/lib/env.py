"""Reads settings from the environment, loudly.

A value may also come from a file named by ``NAME_FILE`` (Docker and Kubernetes
secrets). Nonsense raises `ConfigurationError` at start, never later.
"""

import os
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})


class ConfigurationError(Exception):
    """A setting is missing or makes no sense; the message says which and what to do."""


def env_str(name: str, default: str = "") -> str:
    """Text of ``name``, or of the file that ``NAME_FILE`` points at."""
    value = os.environ.get(name)
    if value is not None:
        return value
    file_name = os.environ.get(f"{name}_FILE")
    if file_name:
        try:
            return Path(file_name).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigurationError(f"{name}_FILE cannot be read: {error}") from error
    return default


def env_bool(name: str, *, default: bool = False) -> bool:
    """True for 1/true/yes/on, False for 0/false/no/off; anything else is an error."""
    raw = env_str(name, "1" if default else "0").strip().lower()
    if raw in _TRUE:
        return True
    if raw in _FALSE:
        return False
    raise ConfigurationError(f"{name} must be true or false, not {raw!r}")


def env_int(name: str, default: int, *, low: int = 0, high: int = 2**31) -> int:
    """A whole number between ``low`` and ``high``, both included."""
    raw = env_str(name, str(default)).strip()
    try:
        value = int(raw)
    except ValueError as error:
        raise ConfigurationError(f"{name} must be a whole number, not {raw!r}") from error
    if not low <= value <= high:
        raise ConfigurationError(f"{name} must lie between {low} and {high}, not {value}")
    return value


def env_list(name: str, default: str = "") -> list[str]:
    """Comma-separated values, blanks dropped."""
    return [part.strip() for part in env_str(name, default).split(",") if part.strip()]


def database_from_url(url: str) -> dict[str, object]:
    """Django's database settings for ``postgresql://user:password@host:port/name?host=/socket``.

    Query parameters are libpq options; ``host`` there names a socket directory.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"postgresql", "postgres"}:
        raise ConfigurationError("DATABASE_URL must start with postgresql://")
    options: dict[str, object] = dict(parse_qsl(parts.query))
    host = str(options.pop("host", "") or parts.hostname or "")
    port = str(options.pop("port", "") or parts.port or "")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": host,
        "PORT": port,
        "OPTIONS": options,
    }
