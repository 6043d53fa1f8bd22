"""Which handler serves which operation: a table filled by decorators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from billing.stripe_sandbox.engine import Call, Sandbox
from billing.stripe_sandbox.errors import Failure

Handler = Callable[[Sandbox, Call], dict[str, Any]]

_ROUTES: dict[tuple[str, int], list[tuple[list[str], str, Handler]]] = {}


def route(method: str, template: str) -> Callable[[Handler], Handler]:
    """Registers the handler of an operation, named as in Stripe's description."""

    def register(handler: Handler) -> Handler:
        parts = template.strip("/").split("/")
        rows = _ROUTES.setdefault((method, len(parts)), [])
        rows.append((parts, f"{method} {template}", handler))
        # Fixed words win over placeholders: /v1/invoices/create_preview is no invoice id.
        rows.sort(key=lambda row: sum(part.startswith("{") for part in row[0]))
        return handler

    return register


def find(method: str, path: str) -> tuple[str, Handler, dict[str, str]]:
    """Returns (operation, handler, path arguments) or raises Stripe's 404."""
    parts = path.strip("/").split("/")
    for template, operation, handler in _ROUTES.get((method, len(parts)), []):
        args: dict[str, str] = {}
        for expected, actual in zip(template, parts, strict=True):
            if expected.startswith("{"):
                args[expected[1:-1]] = actual
            elif expected != actual:
                break
        else:
            return operation, handler, args
    raise Failure(
        f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or "
        "we can help at https://support.stripe.com/.",
        status=404,
        version=2 if path.startswith("/v2/") else 1,
        code="not_found" if path.startswith("/v2/") else None,
    )


def operations() -> list[str]:
    """Returns every operation that is served, as "METHOD /path"."""
    return sorted(operation for rows in _ROUTES.values() for _, operation, _ in rows)
