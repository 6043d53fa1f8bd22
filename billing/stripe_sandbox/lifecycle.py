"""What happens by itself as time passes."""

from __future__ import annotations

from billing.stripe_sandbox.engine import Sandbox


def tick(sandbox: Sandbox) -> None:
    """Does everything that is due by the sandbox's clock. Call inside a transaction."""
