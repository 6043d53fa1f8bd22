"""`/v1/subscription_items`: prices on subscriptions, with their current periods."""

from __future__ import annotations

from typing import Any

from billing.stripe_sandbox.answers import (
    answer,
    emit,
    merged_metadata,
    page,
)
from billing.stripe_sandbox.engine import Call, Sandbox, World, new_id
from billing.stripe_sandbox.errors import Failure, missing_param
from billing.stripe_sandbox.periods import period_at
from billing.stripe_sandbox.rollover import settle_price_change
from billing.stripe_sandbox.routing import route
from billing.stripe_sandbox.store import Doc
from billing.stripe_sandbox.subscription_store import items_of, set_items

ITEMS_MAX = 20


def _price_of(sandbox: Sandbox, call: Call, item: dict[str, Any], where: str) -> Doc:
    """Returns the price of a new or changed item, active and recurring."""
    if "price" not in item:
        raise missing_param(f"{where}[price]")
    price = sandbox.find(call.world, "price", item["price"], param=f"{where}[price]")
    if price["recurring"] is None:
        raise Failure(
            "The price specified is set to `type=one_time` but this field only accepts prices "
            "with `type=recurring`.",
            param=f"{where}[price]",
        )
    if not price["active"]:
        raise Failure(
            f"The price specified is inactive. This field only accepts active prices: "
            f"{price['id']}.",
            param=f"{where}[price]",
        )
    return price


def first_period(sandbox: Sandbox, world: World, subscription: Doc, price: Doc) -> tuple[int, int]:
    """Returns the period of a new item: from now, or from the start, to the next boundary."""
    now = sandbox.time_for(world, subscription["customer"])
    if subscription["status"] == "trialing":
        return subscription["trial_start"], subscription["trial_end"]
    recurring = price["recurring"]
    start, end = period_at(
        subscription["billing_cycle_anchor"],
        recurring["interval"],
        recurring["interval_count"],
        now,
    )
    # A period before the anchor is cut short: it begins with the subscription.
    return max(start, subscription["start_date"]), end


def add_item(
    sandbox: Sandbox, call: Call, subscription: Doc, item: dict[str, Any], *, where: str
) -> Doc:
    """Adds a price to a subscription."""
    price = _price_of(sandbox, call, item, where)
    present = items_of(sandbox, call.world, subscription["id"])
    if any(other["price"] == price["id"] for other in present):
        raise Failure(
            f"Cannot add multiple subscription items with the same price: {price['id']}",
            param=f"{where}[price]",
        )
    if len(present) >= ITEMS_MAX:
        raise Failure(f"A subscription can have up to {ITEMS_MAX} items.", param="items")
    start, end = first_period(sandbox, call.world, subscription, price)
    now = sandbox.time_for(call.world, subscription["customer"])
    doc: Doc = {
        "id": new_id("si", 14),
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": now,
        "current_period_end": end,
        "current_period_start": start,
        "discounts": [],
        "metadata": merged_metadata({}, item.get("metadata")),
        "price": price["id"],
        "subscription": subscription["id"],
        "tax_rates": [],
        # Usage of this item counts from here on (a price change begins anew).
        "_usage_from": start,
    }
    _set_quantity(doc, price, item, where)
    sandbox.store.put(call.world.name, "subscription_item", doc)
    set_items(
        sandbox, call.world, subscription["id"], [other["id"] for other in present] + [doc["id"]]
    )
    return doc


def _set_quantity(doc: Doc, price: Doc, item: dict[str, Any], where: str) -> None:
    """Sets the quantity of a licensed item; a metered one has none (SPEC)."""
    if price["recurring"]["usage_type"] == "metered":
        if "quantity" in item:
            raise Failure(
                "Usage-based prices cannot have a quantity: usage is reported through the meter.",
                param=f"{where}[quantity]",
            )
        doc.pop("quantity", None)
    else:
        asked: Any = item.get("quantity", doc.get("quantity"))
        doc["quantity"] = 1 if asked is None else int(asked)


def change_item(
    sandbox: Sandbox, call: Call, subscription: Doc, old: Doc, item: dict[str, Any], *, where: str
) -> Doc:
    """Changes price, quantity or metadata of an item."""
    doc = dict(old)
    if "metadata" in item:
        doc["metadata"] = merged_metadata(old["metadata"], item["metadata"])
    price_id = str(item.get("price") or old["price"])
    price = sandbox.find(call.world, "price", price_id)
    if price_id != old["price"]:
        price = _price_of(sandbox, call, item, where)
        bill = item.get("proration_behavior") != "none"
        doc["_usage_from"] = settle_price_change(sandbox, call.world, subscription, old, bill=bill)
        doc["price"] = price["id"]
    _set_quantity(doc, price, item, where)
    return sandbox.store.put(call.world.name, "subscription_item", doc)


def remove_item(
    sandbox: Sandbox, call: Call, subscription: Doc, item: Doc, *, clear_usage: bool
) -> None:
    """Takes an item off; its usage of the running period is dropped (DOC)."""
    items = items_of(sandbox, call.world, subscription["id"])
    if len(items) == 1:
        raise Failure(
            "A subscription must have at least one active plan. To cancel, delete the subscription."
        )
    sandbox.store.delete(call.world.name, "subscription_item", item["id"])
    set_items(
        sandbox,
        call.world,
        subscription["id"],
        [other["id"] for other in items if other["id"] != item["id"]],
    )


@route("POST", "/v1/subscription_items")
def create(sandbox: Sandbox, call: Call) -> Doc:
    """Adds an item to a subscription."""
    subscription = sandbox.find(
        call.world, "subscription", call.params["subscription"], param="subscription"
    )
    doc = add_item(sandbox, call, subscription, call.params, where="")
    _emit_updated(sandbox, call, subscription)
    return answer(sandbox, call, "subscription_item", doc)


def _emit_updated(sandbox: Sandbox, call: Call, subscription: Doc) -> None:
    emit(
        sandbox,
        call.world,
        "customer.subscription.updated",
        "subscription",
        subscription,
        previous={},
        call=call,
    )


@route("GET", "/v1/subscription_items")
def index(sandbox: Sandbox, call: Call) -> Doc:
    """Lists the items of one subscription."""
    subscription = sandbox.find(
        call.world, "subscription", call.params["subscription"], param="subscription"
    )
    docs = items_of(sandbox, call.world, subscription["id"])
    return page(sandbox, call, "subscription_item", docs)


@route("GET", "/v1/subscription_items/{item}")
def show(sandbox: Sandbox, call: Call) -> Doc:
    """Returns an item."""
    doc = sandbox.find(call.world, "subscription_item", call.args["item"])
    return answer(sandbox, call, "subscription_item", doc)


@route("POST", "/v1/subscription_items/{item}")
def update(sandbox: Sandbox, call: Call) -> Doc:
    """Changes an item."""
    old = sandbox.find(call.world, "subscription_item", call.args["item"])
    subscription = sandbox.find(call.world, "subscription", old["subscription"])
    doc = change_item(sandbox, call, subscription, old, call.params, where="")
    _emit_updated(sandbox, call, subscription)
    return answer(sandbox, call, "subscription_item", doc)


@route("DELETE", "/v1/subscription_items/{item}")
def delete(sandbox: Sandbox, call: Call) -> Doc:
    """Removes an item."""
    old = sandbox.find(call.world, "subscription_item", call.args["item"])
    subscription = sandbox.find(call.world, "subscription", old["subscription"])
    remove_item(sandbox, call, subscription, old, clear_usage=bool(call.params.get("clear_usage")))
    _emit_updated(sandbox, call, subscription)
    return {"id": old["id"], "object": "subscription_item", "deleted": True}
