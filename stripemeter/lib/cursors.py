"""Opaque page cursors: signed, bound to the tenant, the list and its filters, and expiring.

A cursor altered, taken from another tenant, another list or other filters is a 400, never
a hint about what lies behind it.
"""

import hashlib
from typing import Any

from django.core import signing

from stripemeter.lib import strictjson
from stripemeter.lib.errors import InvalidRequest, invalid

MAX_AGE_SECONDS = 24 * 3600
CURSOR_CHARS_MAX = 2_000


def _salt(tenant_key: str, listing: str, filters: dict[str, Any]) -> str:
    scope = strictjson.canonical({"tenant": tenant_key, "list": listing, "filters": filters})
    return f"stripemeter.cursor.{hashlib.sha256(scope).hexdigest()}"


def encode(position: Any, *, tenant_key: str, listing: str, filters: dict[str, Any]) -> str:
    """The cursor for ``position`` (JSON-able): where the next page of ``listing`` starts."""
    return signing.dumps(position, salt=_salt(tenant_key, listing, filters))


def decode(cursor: str, *, tenant_key: str, listing: str, filters: dict[str, Any]) -> Any:
    """The position in ``cursor``. Raises `InvalidRequest` with code ``invalid_cursor``."""
    try:
        if len(cursor) > CURSOR_CHARS_MAX:
            raise signing.BadSignature("too long")
        return signing.loads(
            cursor, salt=_salt(tenant_key, listing, filters), max_age=MAX_AGE_SECONDS
        )
    except (signing.BadSignature, ValueError) as error:
        raise _refusal() from error


def _refusal() -> InvalidRequest:
    problem = invalid("cursor", "is not a cursor of this list", code="invalid_cursor")
    problem.code = "invalid_cursor"
    return problem
