"""Fields that people filled in on a page."""

from django.http import HttpRequest

from stripemeter.lib import text
from stripemeter.lib.errors import invalid


def plain(request: HttpRequest, name: str, *, chars_max: int) -> str:
    """The posted field, trimmed; empty when it was left out.

    Raises `InvalidRequest`, with the field's name, for more than ``chars_max`` characters or
    one that spoofs logs and pages (`text.FORBIDDEN`).
    """
    value = str(request.POST.get(name, "")).strip()
    if len(value) > chars_max or text.FORBIDDEN.search(value):
        raise invalid(name, f"may have at most {chars_max:,} plain characters")
    return value
