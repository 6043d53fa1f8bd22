"""Putting deliveries into the outbox, and noting which arrived; `delivery.py` sends them."""

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


def note_delivery(sandbox: Sandbox, world: World, event_id: str, endpoint: str) -> None:
    """Counts an endpoint's first success for a snapshot event. Call inside a transaction.

    The draft of an `invoice.created` that reached everybody may finalise (see the
    setting `finalize_waits_for_webhooks`).
    """
    event = sandbox.store.get(world.name, "event", event_id)
    if event is None or endpoint in event.get("_reached", []):
        return
    pending = max(event["pending_webhooks"] - 1, 0)
    reached = [*event.get("_reached", []), endpoint]
    sandbox.store.put(
        world.name, "event", event | {"pending_webhooks": pending, "_reached": reached}
    )
    if event["type"] != "invoice.created" or pending:
        return
    invoice = sandbox.store.get(world.name, "invoice", event["data"]["object"]["id"])
    if invoice is not None:
        now = sandbox.time_for(world, invoice["customer"])
        sandbox.store.put(world.name, "invoice", invoice | {"webhooks_delivered_at": now})
