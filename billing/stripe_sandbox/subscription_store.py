"""Subscriptions and their items in storage, and how they are shown."""

from __future__ import annotations

from billing.stripe_sandbox.answers import emit, render, renderer
from billing.stripe_sandbox.engine import Call, Sandbox, World
from billing.stripe_sandbox.store import Doc

ENDED = ("canceled", "incomplete_expired")
"""States that a subscription never leaves."""


@renderer("subscription")
def _render_subscription(sandbox: Sandbox, world: World, doc: Doc) -> Doc:
    """Adds the items to a stored subscription."""
    items = [
        render(sandbox, world, "subscription_item", item)
        for item in items_of(sandbox, world, doc["id"])
    ]
    return doc | {
        "items": {
            "object": "list",
            "data": items,
            "has_more": False,
            "total_count": len(items),
            "url": f"/v1/subscription_items?subscription={doc['id']}",
        }
    }


@renderer("subscription_item")
def _render_item(sandbox: Sandbox, world: World, doc: Doc) -> Doc:
    """Puts the price into a stored item."""
    price = sandbox.find(world, "price", doc["price"])
    return doc | {"price": render(sandbox, world, "price", price)}


def items_of(sandbox: Sandbox, world: World, subscription: str) -> list[Doc]:
    """Returns the items of a subscription, oldest first."""
    owner = sandbox.store.get(world.name, "subscription_items_of", subscription)
    found = [
        sandbox.store.get(world.name, "subscription_item", item)
        for item in (owner["items"] if owner else [])
    ]
    return [item for item in found if item is not None]


def set_items(sandbox: Sandbox, world: World, subscription: str, items: list[str]) -> None:
    """Keeps the list of a subscription's items, so that finding them needs no search."""
    sandbox.store.put(world.name, "subscription_items_of", {"id": subscription, "items": items})


def end_subscription(
    sandbox: Sandbox, world: World, old: Doc, *, call: Call | None = None, at: int | None = None
) -> Doc:
    """Sets a subscription to canceled and emits its event."""
    now = at if at is not None else sandbox.time_for(world, old["customer"])
    doc = sandbox.store.put(
        world.name,
        "subscription",
        old
        | {
            "status": "canceled",
            "canceled_at": old["canceled_at"] or now,
            "ended_at": now,
            "cancellation_details": old["cancellation_details"]
            | {"reason": "cancellation_requested"},
        },
    )
    emit(sandbox, world, "customer.subscription.deleted", "subscription", doc, call=call)
    return doc
