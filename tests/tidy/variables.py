"""The environment variables that the service reads, taken from its sources."""

import re

from tests.tidy.sources import PACKAGES, python_sources

_READS = re.compile(
    r"(?:env_(?:str|bool|int|list)|_secret|environ\.get|environ\.setdefault|getenv)"
    r"\(\s*[\"']([A-Z][A-Z0-9_]+)[\"']"
)
#: Read by programs below ours, or set by us for them.
_NOT_SETTINGS = {"DJANGO_SETTINGS_MODULE", "PATH"}


def variables_read() -> set[str]:
    """Every variable named in a read of the environment, of settings or of the runtime."""
    found: set[str] = set()
    for source in python_sources(*PACKAGES):
        found |= set(_READS.findall(source.text))
    return found - _NOT_SETTINGS
