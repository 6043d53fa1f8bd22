"""The sandbox's own web page."""

from __future__ import annotations

from billing.stripe_sandbox.engine import Sandbox


def render(sandbox: Sandbox) -> str:
    """Returns the page as HTML."""
    return "<!doctype html><title>Stripe sandbox</title><h1>Stripe sandbox</h1>"
