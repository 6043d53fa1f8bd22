"""`/v1/subscriptions`."""

from __future__ import annotations

from typing import Any

from billing.stripe_sandbox.answers import (
    answer,
    created_filter,
    emit,
    equal_filter,
    merged_metadata,
    page,
)
from billing.stripe_sandbox.engine import Call, Sandbox, new_id
from billing.stripe_sandbox.errors import Failure, missing_param
from billing.stripe_sandbox.periods import anchor_from_config
from billing.stripe_sandbox.resources.subscription_items import (
    add_item,
    change_item,
    remove_item,
)
from billing.stripe_sandbox.rollover import final_invoice, first_invoice, restart
from billing.stripe_sandbox.routing import route
from billing.stripe_sandbox.store import Doc
from billing.stripe_sandbox.subscription_store import ENDED, end_subscription, items_of

FLEXIBLE_BY_DEFAULT_FROM = "2025-09-30.clover"


def _billing_mode(call: Call) -> Doc:
    """Returns the mode asked for; flexible by default from API 2025-09-30.clover (DOC)."""
    asked = call.params.get("billing_mode")
    kind = asked["type"] if asked else None
    if kind is None:
        kind = "flexible" if call.version >= FLEXIBLE_BY_DEFAULT_FROM else "classic"
    flexible = {"proration_discounts": "included"} if kind == "flexible" else None
    return {"type": kind, "flexible": flexible}


def _anchors(sandbox: Sandbox, call: Call, customer: str) -> tuple[int, int, int]:
    """Returns (now, start date, billing cycle anchor) of a new subscription."""
    params = call.params
    now = sandbox.time_for(call.world, customer)
    start = int(params.get("backdate_start_date", now))
    if start > now:
        raise Failure("`backdate_start_date` must be in the past.", param="backdate_start_date")
    anchor = start
    if params.get("trial_end") not in (None, "now"):
        anchor = int(params["trial_end"])
    elif "trial_period_days" in params:
        anchor = now + int(params["trial_period_days"]) * 86_400
    if "billing_cycle_anchor" in params:
        anchor = int(params["billing_cycle_anchor"])
        if anchor < start:
            raise Failure(
                "`billing_cycle_anchor` cannot be before the start of the subscription.",
                param="billing_cycle_anchor",
            )
    elif params.get("billing_cycle_anchor_config"):
        anchor = anchor_from_config(params["billing_cycle_anchor_config"], start)
    return now, start, anchor


@route("POST", "/v1/subscriptions")
def create(sandbox: Sandbox, call: Call) -> Doc:
    """Creates a subscription with its items and its first period."""
    params = call.params
    if "customer" not in params:
        raise missing_param("customer")
    customer = sandbox.find(call.world, "customer", params["customer"], param="customer")
    if not params.get("items"):
        raise missing_param("items")
    now, start, anchor = _anchors(sandbox, call, customer["id"])
    trialing = anchor > now and ("trial_end" in params or "trial_period_days" in params)
    first_price = sandbox.find(
        call.world, "price", params["items"][0].get("price", ""), param="items[0][price]"
    )
    doc: Doc = _new_subscription(call, customer, first_price["currency"], now, start, anchor)
    if trialing:
        doc |= {"status": "trialing", "trial_start": now, "trial_end": anchor}
    sandbox.store.put(call.world.name, "subscription", doc)
    for index, item in enumerate(params["items"]):
        add_item(sandbox, call, doc, item, where=f"items[{index}]")
    emit(sandbox, call.world, "customer.subscription.created", "subscription", doc, call=call)
    first_invoice(sandbox, call.world, doc, call=call)
    doc = sandbox.find(call.world, "subscription", doc["id"])
    return answer(sandbox, call, "subscription", doc)


def _new_subscription(
    call: Call, customer: Doc, currency: str, now: int, start: int, anchor: int
) -> Doc:
    """Returns the stored form of a new subscription, without its items."""
    params = call.params
    return {
        "id": new_id("sub"),
        "object": "subscription",
        "application": None,
        "application_fee_percent": None,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": anchor,
        "billing_cycle_anchor_config": None,
        "billing_mode": _billing_mode(call),
        "billing_schedules": [],
        "billing_thresholds": None,
        "cancel_at": params.get("cancel_at") or None,
        "cancel_at_period_end": params.get("cancel_at_period_end", False),
        "canceled_at": None,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": params.get("collection_method", "charge_automatically"),
        "created": now,
        "currency": params.get("currency", currency),
        "customer": customer["id"],
        "customer_account": None,
        "days_until_due": params.get("days_until_due"),
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": params.get("description"),
        "discounts": [],
        "ended_at": None,
        "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
        "latest_invoice": None,
        "livemode": call.world.livemode,
        "metadata": merged_metadata({}, params.get("metadata")),
        "next_pending_invoice_item_invoice": None,
        "on_behalf_of": None,
        "pause_collection": None,
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        "pending_invoice_item_interval": None,
        "pending_setup_intent": None,
        "pending_update": None,
        "schedule": None,
        "start_date": start,
        "status": "active",
        "test_clock": customer["test_clock"],
        "transfer_data": None,
        "trial_end": None,
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        "trial_start": None,
    }


@route("GET", "/v1/subscriptions")
def index(sandbox: Sandbox, call: Call) -> Doc:
    """Lists subscriptions; ended ones only with `status` "canceled", "ended" or "all"."""
    params = call.params
    docs = created_filter(call, sandbox.store.all(call.world.name, "subscription"))
    docs = equal_filter(call, docs, "customer", "collection_method", "test_clock")
    status = params.get("status")
    if status is None:
        docs = [doc for doc in docs if doc["status"] not in ENDED]
    elif status == "ended":
        docs = [doc for doc in docs if doc["status"] in ENDED]
    elif status != "all":
        docs = [doc for doc in docs if doc["status"] == status]
    if "price" in params:
        docs = [
            doc
            for doc in docs
            if any(
                item["price"] == params["price"]
                for item in items_of(sandbox, call.world, doc["id"])
            )
        ]
    return page(sandbox, call, "subscription", docs)


@route("GET", "/v1/subscriptions/{subscription_exposed_id}")
def show(sandbox: Sandbox, call: Call) -> Doc:
    """Returns a subscription."""
    doc = sandbox.find(call.world, "subscription", call.args["subscription_exposed_id"])
    return answer(sandbox, call, "subscription", doc)


def _plain_changes(call: Call, old: Doc) -> Doc:
    """Returns the changed plain fields of an update."""
    names = ("cancel_at_period_end", "collection_method", "days_until_due", "description")
    changes: Doc = {name: call.params[name] for name in names if name in call.params}
    if "cancel_at" in call.params:
        changes["cancel_at"] = call.params["cancel_at"] or None
    if "metadata" in call.params:
        changes["metadata"] = merged_metadata(old["metadata"], call.params["metadata"])
    if "pause_collection" in call.params:
        pause: Any = call.params["pause_collection"]
        changes["pause_collection"] = {"resumes_at": None, **pause} if pause else None
    if call.params.get("cancel_at_period_end") is not None:
        cancels = call.params["cancel_at_period_end"]
        changes["cancellation_details"] = old["cancellation_details"] | {
            "reason": "cancellation_requested" if cancels else None
        }
    return changes


@route("POST", "/v1/subscriptions/{subscription_exposed_id}")
def update(sandbox: Sandbox, call: Call) -> Doc:
    """Changes fields and items; `billing_cycle_anchor=now` starts a new period."""
    old = sandbox.find(call.world, "subscription", call.args["subscription_exposed_id"])
    if old["status"] in ENDED:
        raise Failure(
            "A canceled subscription can only update its cancellation_details and metadata."
        )
    changes = _plain_changes(call, old)
    now = sandbox.time_for(call.world, old["customer"])
    if changes.get("cancel_at_period_end"):
        changes["canceled_at"] = now
    if call.params.get("billing_cycle_anchor") == "now":
        changes["billing_cycle_anchor"] = now
    if call.params.get("trial_end") == "now" and old["status"] == "trialing":
        changes |= {"status": "active", "trial_end": now, "billing_cycle_anchor": now}
    doc = sandbox.store.put(call.world.name, "subscription", old | changes)
    for index, item in enumerate(call.params.get("items") or []):
        _apply_item(sandbox, call, doc, item, where=f"items[{index}]")
    if "billing_cycle_anchor" in changes:
        restart(sandbox, call.world, doc, at=now, bill_usage=old["status"] != "trialing")
        doc = sandbox.find(call.world, "subscription", doc["id"])
    previous = {name: old[name] for name in changes}
    emit(
        sandbox,
        call.world,
        "customer.subscription.updated",
        "subscription",
        doc,
        previous=previous,
        call=call,
    )
    return answer(sandbox, call, "subscription", doc)


def _apply_item(
    sandbox: Sandbox, call: Call, doc: Doc, item: dict[str, Any], *, where: str
) -> None:
    """Adds, changes or removes one item of an update."""
    if "id" not in item:
        add_item(sandbox, call, doc, item, where=where)
        return
    old = sandbox.find(call.world, "subscription_item", item["id"], param=f"{where}[id]")
    if item.get("deleted"):
        remove_item(sandbox, call, doc, old, clear_usage=bool(item.get("clear_usage")))
    else:
        change_item(
            sandbox,
            call,
            doc,
            old,
            {"proration_behavior": call.params.get("proration_behavior")} | item,
            where=where,
        )


@route("POST", "/v1/subscriptions/{subscription}/migrate")
def migrate(sandbox: Sandbox, call: Call) -> Doc:
    """Moves a subscription to flexible mode, from where there is no way back (DOC)."""
    old = sandbox.find(call.world, "subscription", call.args["subscription"])
    if call.params["billing_mode"]["type"] != "flexible":
        raise Failure("Subscriptions can only be migrated to `flexible`.", param="billing_mode")
    mode = {
        "type": "flexible",
        "flexible": {"proration_discounts": "included"},
        "updated_at": sandbox.time_for(call.world, old["customer"]),
    }
    doc = sandbox.store.put(call.world.name, "subscription", old | {"billing_mode": mode})
    emit(
        sandbox,
        call.world,
        "customer.subscription.updated",
        "subscription",
        doc,
        previous={"billing_mode": old["billing_mode"]},
        call=call,
    )
    return answer(sandbox, call, "subscription", doc)


@route("DELETE", "/v1/subscriptions/{subscription_exposed_id}")
def cancel(sandbox: Sandbox, call: Call) -> Doc:
    """Cancels at once."""
    old = sandbox.find(call.world, "subscription", call.args["subscription_exposed_id"])
    if old["status"] in ENDED:
        raise Failure(
            f"No such subscription: '{old['id']}'", status=404, code="resource_missing", param="id"
        )
    doc = end_subscription(sandbox, call.world, old, call=call)
    if call.params.get("invoice_now"):
        final_invoice(sandbox, call.world, doc, at=doc["ended_at"])
        doc = sandbox.find(call.world, "subscription", doc["id"])
    return answer(sandbox, call, "subscription", doc)
