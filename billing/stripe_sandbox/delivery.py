"""Delivery of events to webhook endpoints."""

from __future__ import annotations

from billing.stripe_sandbox.engine import Sandbox


class Deliverer:
    """Sends what waits in the outbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    def wake(self) -> None:
        """Tells the deliverer that something may be waiting."""

    async def run_due(self) -> None:
        """Sends what is due."""
        self.sandbox.outbox.clear()
