"""What schemathesis cannot know: which tenant the key is of, and names that exist.

Loaded through ``SCHEMATHESIS_HOOKS``. Half of the generated bodies and queries keep what was
generated; the other half name the key's own tenant, so that requests get past its check.
"""

from typing import Any

import schemathesis

OWN = "acme"


def _is_even(value: Any) -> bool:
    return len(repr(value)) % 2 == 0


def _with_own_tenant(values: Any) -> Any:
    if isinstance(values, dict) and "tenantId" in values:
        if not _is_even(values):
            values = values | {"tenantId": OWN}
        events = values.get("events")
        if isinstance(events, list):
            values = values | {"events": [_with_own_tenant(event) for event in events]}
    return values


@schemathesis.hook
def map_body(ctx: Any, body: Any) -> Any:
    """Name the own tenant in every other body."""
    return _with_own_tenant(body)


@schemathesis.serializer("application/x-ndjson")
def ndjson(ctx: Any, value: Any) -> bytes:
    """Lines of JSON, sent as they are."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


@schemathesis.hook
def map_query(ctx: Any, query: Any) -> Any:
    """Name the own tenant in every other query."""
    return _with_own_tenant(query)
