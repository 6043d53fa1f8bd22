"""Putting deliveries into the outbox; `delivery.py` takes them out."""

from __future__ import annotations

from billing.stripe_sandbox.engine import Sandbox, World
from billing.stripe_sandbox.store import Doc


def queue_delivery(
    sandbox: Sandbox, world: World, kind: str, endpoint: str, event_kind: str, event: Doc
) -> None:
    """Puts one delivery of an event to an endpoint into the outbox."""
    sandbox.outbox.append(
        {
            "world": world.name,
            "kind": kind,
            "endpoint": endpoint,
            "event_kind": event_kind,
            "event": event["id"],
            "type": event["type"],
            "attempt": 0,
            "due": 0.0,
        }
    )
