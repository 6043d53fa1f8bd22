"""What happens by itself as the sandbox's clock runs."""

from __future__ import annotations

from billing.stripe_sandbox.engine import Sandbox, World
from billing.stripe_sandbox.gate import forget_old_keys
from billing.stripe_sandbox.rollover import run_until
from billing.stripe_sandbox.thin import report_due_rejections

BILLED_KINDS = frozenset({"subscription", "subscription_item", "invoice"})
"""Kinds whose change may move the next billing step."""

PRUNE_EVERY_SECONDS = 3_600


def tick(sandbox: Sandbox) -> None:
    """Does everything that is due by the sandbox's clock. Call inside a transaction."""
    now = sandbox.clock.now()
    if sandbox.store.changed_kinds & BILLED_KINDS or now >= sandbox.next_billing_step:
        sandbox.store.changed_kinds.clear()
        sandbox.next_billing_step = min(
            (run_until(sandbox, World.named(name), None, now) for name in sandbox.store.worlds()),
            default=float("inf"),
        )
        sandbox.store.changed_kinds.clear()
    for name in sandbox.store.worlds():
        report_due_rejections(sandbox, World.named(name))
    if now - sandbox.pruned_at > PRUNE_EVERY_SECONDS:
        sandbox.pruned_at = now
        forget_old_keys(sandbox)
