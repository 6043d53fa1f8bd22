"""Subscriptions as time passes: periods end, drafts are made, finalised, collected.

Everything due is done in the order of its moment, so that a clock moved by a year
gives the same invoices as one that ran. Objects on a test clock follow that clock,
all others the sandbox's own.
"""

from __future__ import annotations

import heapq
from decimal import Decimal

from billing.stripe_sandbox.answers import emit
from billing.stripe_sandbox.engine import Call, Sandbox, World, new_id
from billing.stripe_sandbox.invoicing import (
    GRACE_SECONDS_MAX,
    finalize,
    new_invoice,
    source_of_item,
    store_new,
    usage_of,
    void,
)
from billing.stripe_sandbox.periods import period_at
from billing.stripe_sandbox.pricing import charges, merged
from billing.stripe_sandbox.store import Doc
from billing.stripe_sandbox.subscription_store import ENDED, end_subscription, items_of

STEPS_MAX = 100_000
"""A bound on one advance: a daily subscription over three centuries."""

NEVER = float("inf")


def is_metered(sandbox: Sandbox, world: World, item: Doc) -> bool:
    """Tells whether usage, not a quantity, decides an item's line."""
    price = sandbox.find(world, "price", item["price"])
    return bool(price["recurring"]["usage_type"] == "metered")


def _due_of_subscription(sandbox: Sandbox, world: World, doc: Doc) -> float:
    """Returns the moment at which something happens to a subscription by itself."""
    if doc["status"] in ENDED:
        return NEVER
    moments = [item["current_period_end"] for item in items_of(sandbox, world, doc["id"])]
    if doc["cancel_at"]:
        moments.append(doc["cancel_at"])
    return min(moments, default=NEVER)


def _due_of_invoice(sandbox: Sandbox, doc: Doc) -> float:
    """Returns when a draft finalises by itself.

    Stripe waits up to 72 hours for endpoints that did not take `invoice.created`
    (DOC); here only when the setting says so.
    """
    if doc["status"] != "draft" or doc["automatically_finalizes_at"] is None:
        return NEVER
    waits = sandbox.settings["finalize_waits_for_webhooks"]
    if waits and doc["webhooks_delivered_at"] is None:
        return float(doc["created"] + GRACE_SECONDS_MAX)
    return float(doc["automatically_finalizes_at"])


def run_until(sandbox: Sandbox, world: World, test_clock: str | None, now: float) -> float:
    """Does what is due up to `now`, in order; returns the moment of what comes next."""
    queue = _Queue(sandbox, world, test_clock)
    for _ in range(STEPS_MAX):
        step = queue.pop(now)
        if step is None:
            return queue.next_moment()
        moment, kind, doc = step
        if kind == "invoice":
            finalize(sandbox, world, doc, at=moment)
        else:
            invoice = _move_on(sandbox, world, doc, moment)
            queue.add("subscription", doc["id"])
            if invoice is not None:
                queue.add("invoice", invoice["id"])
    raise AssertionError(f"more than {STEPS_MAX} billing steps in one advance")


class _Queue:
    """What is due on one clock, earliest first."""

    def __init__(self, sandbox: Sandbox, world: World, test_clock: str | None) -> None:
        self._sandbox = sandbox
        self._world = world
        self._heap: list[tuple[float, str, str]] = []
        for kind in ("invoice", "subscription"):
            for doc in sandbox.store.all(world.name, kind):
                if doc["test_clock"] == test_clock:
                    self.add(kind, doc["id"])

    def _due(self, kind: str, doc: Doc) -> float:
        if kind == "invoice":
            return _due_of_invoice(self._sandbox, doc)
        return _due_of_subscription(self._sandbox, self._world, doc)

    def add(self, kind: str, identifier: str) -> None:
        """Queues an object, if anything ever happens to it by itself."""
        doc = self._sandbox.find(self._world, kind, identifier)
        due = self._due(kind, doc)
        if due < NEVER:
            # "invoice" sorts first: a draft is finalised before the next period ends.
            heapq.heappush(self._heap, (due, kind, identifier))

    def next_moment(self) -> float:
        """Returns when the next thing is due, infinity when nothing is."""
        return self._heap[0][0] if self._heap else NEVER

    def pop(self, now: float) -> tuple[int, str, Doc] | None:
        """Returns the next (moment, kind, object) that is due, or None."""
        if self.next_moment() > now:
            return None
        due, kind, identifier = heapq.heappop(self._heap)
        return int(due), kind, self._sandbox.find(self._world, kind, identifier)


def _move_on(sandbox: Sandbox, world: World, doc: Doc, moment: int) -> Doc | None:
    """Ends the period of the items that are due, begins the next, returns the draft made."""
    ends = doc["cancel_at_period_end"] or (doc["cancel_at"] and doc["cancel_at"] <= moment)
    items = items_of(sandbox, world, doc["id"])
    due = items if ends else [item for item in items if item["current_period_end"] <= moment]
    trial_over = doc["status"] == "trialing"
    sources: list[Doc] = []
    start = min(item["current_period_start"] for item in due)
    for item in due:
        sources += _sources_of_turn(
            sandbox, world, doc, item, moment, bill_usage=not trial_over, renew=not ends
        )
    sources += _pending_items(sandbox, world, doc)
    if trial_over and not ends:
        doc = sandbox.store.put(world.name, "subscription", doc | {"status": "active"})
    if ends:
        doc = end_subscription(sandbox, world, doc, at=moment)
    else:
        emit(sandbox, world, "customer.subscription.updated", "subscription", doc, previous={})
    if not sources:
        return None
    return _bill(sandbox, world, doc, sources, moment, (start, moment))


def restart(sandbox: Sandbox, world: World, doc: Doc, *, at: int, bill_usage: bool) -> None:
    """Begins new periods at a reset anchor, and bills the usage up to it (not a trial's)."""
    items = items_of(sandbox, world, doc["id"])
    start = min(item["current_period_start"] for item in items)
    sources: list[Doc] = []
    for item in items:
        sources += _sources_of_turn(
            sandbox, world, doc, item, at, bill_usage=bill_usage, renew=True
        )
    sources += _pending_items(sandbox, world, doc)
    if sources:
        _bill(sandbox, world, doc, sources, at, (start, at), reason="subscription_update")


def _sources_of_turn(
    sandbox: Sandbox,
    world: World,
    doc: Doc,
    item: Doc,
    moment: int,
    *,
    bill_usage: bool,
    renew: bool,
) -> list[Doc]:
    """Returns the sources of one item at the end of its period, and begins its next one."""
    price = sandbox.find(world, "price", item["price"])
    recurring = price["recurring"]
    start, end = period_at(
        doc["billing_cycle_anchor"], recurring["interval"], recurring["interval_count"], moment
    )
    sources: list[Doc] = []
    if recurring["usage_type"] == "metered":
        if bill_usage:
            sources.append(
                source_of_item(item, start=item["_usage_from"], end=moment, quantity=None)
            )
    elif renew:
        sources.append(source_of_item(item, start=start, end=end, quantity=item["quantity"]))
    if renew:
        sandbox.store.put(
            world.name,
            "subscription_item",
            item
            | {
                "current_period_start": moment,
                "current_period_end": end,
                "billed_until": moment,
                "_usage_from": moment,
            },
        )
    return sources


def _bill(
    sandbox: Sandbox,
    world: World,
    doc: Doc,
    sources: list[Doc],
    moment: int,
    period: tuple[int, int],
    *,
    reason: str = "subscription_cycle",
) -> Doc:
    """Makes the draft of a period's end, as `pause_collection` wants it."""
    customer = sandbox.find(world, "customer", doc["customer"])
    pause = (doc["pause_collection"] or {}).get("behavior")
    invoice = new_invoice(
        sandbox,
        world,
        customer=customer,
        currency=doc["currency"],
        sources=sources,
        at=moment,
        reason=reason,
        period=period,
        subscription=doc,
        auto_advance=pause is None,
    )
    invoice = store_new(sandbox, world, invoice)
    if pause in ("void", "mark_uncollectible"):
        invoice = finalize(sandbox, world, invoice, at=moment)
        if pause == "void" and invoice["status"] == "open":
            invoice = void(sandbox, world, invoice, at=moment)
    return invoice


def _pending_items(sandbox: Sandbox, world: World, doc: Doc) -> list[Doc]:
    """Returns the sources of the subscription's pending invoice items, and takes them."""
    sources = []
    for pending in sandbox.store.all(world.name, "pending_invoice_item"):
        if pending["subscription"] == doc["id"]:
            sandbox.store.delete(world.name, "pending_invoice_item", pending["id"])
            sources.append(pending["source"])
    return sources


def first_invoice(sandbox: Sandbox, world: World, doc: Doc, *, call: Call) -> None:
    """Bills a new subscription: licensed items at once, metered ones not yet.

    Flexible mode has no metered line on the first invoice, classic a zero one
    (DOC). First invoices are final at once (DOC). Without lines there is no
    invoice (unverified).
    """
    if doc["status"] == "trialing":
        return
    classic = doc["billing_mode"]["type"] == "classic"
    sources = []
    items = items_of(sandbox, world, doc["id"])
    for item in items:
        start, end = item["current_period_start"], item["current_period_end"]
        if not is_metered(sandbox, world, item):
            sources.append(source_of_item(item, start=start, end=end, quantity=item["quantity"]))
        elif classic:
            sources.append(source_of_item(item, start=start, end=start, quantity=0))
    if not sources:
        return
    customer = sandbox.find(world, "customer", doc["customer"])
    at = sandbox.time_for(world, doc["customer"])
    invoice = new_invoice(
        sandbox,
        world,
        customer=customer,
        currency=doc["currency"],
        sources=sources,
        at=at,
        reason="subscription_create",
        period=(at, at),
        subscription=doc,
    )
    invoice = store_new(sandbox, world, invoice, call=call)
    finalize(sandbox, world, invoice, at=at, call=call)


def settle_price_change(sandbox: Sandbox, world: World, doc: Doc, old: Doc, *, bill: bool) -> int:
    """Closes the usage of an item whose price changes; returns when the new price begins.

    Flexible mode bills the usage so far as an invoice item, unless prorations are
    off; classic mode drops it: only usage after the change is billed (DOC).
    """
    at = sandbox.time_for(world, doc["customer"])
    if not bill or doc["billing_mode"]["type"] == "classic":
        return at
    source = source_of_item(old, start=old["_usage_from"], end=at, quantity=None, proration=True)
    quantity = usage_of(sandbox, world, source, doc["customer"])
    price = sandbox.find(world, "price", old["price"])
    if merged(charges(price, doc["currency"], quantity)).amount == Decimal():
        return at
    name = new_id("ii")
    source |= {"quantity": format(quantity, "f"), "invoice_item": name}
    sandbox.store.put(
        world.name,
        "pending_invoice_item",
        {"id": name, "subscription": doc["id"], "source": source},
    )
    return at


def final_invoice(sandbox: Sandbox, world: World, doc: Doc, *, at: int) -> None:
    """Bills the usage of a subscription that is cancelled with `invoice_now`."""
    sources = _pending_items(sandbox, world, doc)
    items = items_of(sandbox, world, doc["id"])
    for item in items:
        if is_metered(sandbox, world, item):
            sources.append(source_of_item(item, start=item["_usage_from"], end=at, quantity=None))
    if not sources:
        return
    start = min(item["current_period_start"] for item in items)
    invoice = _bill(sandbox, world, doc, sources, at, (start, at))
    if invoice["status"] == "draft":
        finalize(sandbox, world, invoice, at=at)
