"""Legacy usage records, for API versions up to 2025-02-24.acacia."""

from __future__ import annotations

from billing.stripe_sandbox.engine import Call, Sandbox, new_id
from billing.stripe_sandbox.errors import Failure
from billing.stripe_sandbox.periods import period_at
from billing.stripe_sandbox.resources.prices import LEGACY_VERSION
from billing.stripe_sandbox.routing import route
from billing.stripe_sandbox.store import Doc
from billing.stripe_sandbox.usage_records import records_of, usage_between

SUMMARY_PERIODS_MAX = 100


def _item(sandbox: Sandbox, call: Call) -> Doc:
    """Returns the item, metered without a meter; refuses versions that lack this API."""
    if call.version > LEGACY_VERSION:
        raise Failure(
            f"Unrecognized request URL ({call.method}: {call.path}). Please see "
            "https://stripe.com/docs or we can help at https://support.stripe.com/.",
            status=404,
        )
    item = sandbox.find(call.world, "subscription_item", call.args["id"])
    recurring = sandbox.find(call.world, "price", item["price"])["recurring"]
    if recurring["meter"]:
        raise Failure(  # OBS, laravel/cashier-stripe issue 1709
            f"Cannot create a usage record for {item['id']} because it is not on the legacy "
            "metered billing system. Call /v1/billing/meter_events instead."
        )
    if recurring["usage_type"] != "metered":
        raise Failure(
            "Usage records can only be created for metered plans.", param="subscription_item"
        )
    return item


@route("POST", "/v1/subscription_items/{id}/usage_records")
def create(sandbox: Sandbox, call: Call) -> Doc:
    """Adds (`increment`) or replaces (`set`) the usage at one timestamp of this period."""
    item = _item(sandbox, call)
    params = call.params
    subscription = sandbox.find(call.world, "subscription", item["subscription"])
    now = sandbox.time_for(call.world, subscription["customer"])
    timestamp = params.get("timestamp", "now")
    timestamp = now if timestamp == "now" else int(timestamp)
    if params["quantity"] < 0:
        raise Failure("Invalid non-negative integer", param="quantity")
    if timestamp > now:
        raise Failure(
            "Cannot create the usage record with this timestamp because it is in the future.",
            param="timestamp",
        )
    if timestamp < item["current_period_start"]:
        raise Failure(  # OBS
            "Cannot create the usage record with this timestamp because timestamps must be after "
            "the subscription's last invoice period (or current period start time).",
            param="timestamp",
        )
    record: Doc = {
        "id": new_id("mbur"),
        "object": "usage_record",
        "livemode": call.world.livemode,
        "quantity": params["quantity"],
        "subscription_item": item["id"],
        "timestamp": timestamp,
    }
    kept = record | {"action": params.get("action", "increment")}
    records = [*records_of(sandbox, call.world, item["id"]), kept]
    sandbox.store.put(call.world.name, "usage_records_of", {"id": item["id"], "records": records})
    return record


@route("GET", "/v1/subscription_items/{id}/usage_record_summaries")
def summaries(sandbox: Sandbox, call: Call) -> Doc:
    """Lists total usage by billing period, newest first; `invoice` is null while open."""
    item = _item(sandbox, call)
    subscription = sandbox.find(call.world, "subscription", item["subscription"])
    recurring = sandbox.find(call.world, "price", item["price"])["recurring"]
    limit = int(call.params.get("limit", 10))
    rows: list[Doc] = []
    start, end = item["current_period_start"], item["current_period_end"]
    invoice_of = _invoices(sandbox, call, item["id"])
    while len(rows) <= limit and start >= subscription["start_date"]:
        total = usage_between(sandbox, call.world, item["id"], start, end)
        rows.append(
            {
                "id": f"sis_{item['id'][3:]}{start}",
                "object": "usage_record_summary",
                "invoice": invoice_of.get(end),
                "livemode": call.world.livemode,
                "period": {"start": start, "end": end},
                "subscription_item": item["id"],
                "total_usage": int(total),
            }
        )
        start, end = (
            period_at(
                subscription["billing_cycle_anchor"],
                recurring["interval"],
                recurring["interval_count"],
                start - 1,
            )[0],
            start,
        )
    return {"object": "list", "data": rows[:limit], "has_more": len(rows) > limit, "url": call.path}


def _invoices(sandbox: Sandbox, call: Call, item: str) -> dict[int, str]:
    """Returns period end -> invoice id for an item's closed periods."""
    return {
        source["end"]: invoice["id"]
        for invoice in sandbox.store.all(call.world.name, "invoice")
        for source in invoice["_sources"]
        if source["item"] == item
    }
