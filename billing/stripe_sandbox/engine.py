"""The sandbox as a whole: its state, and one call on its way through.

`Sandbox` holds storage, clock, settings, faults and deliveries. Handlers in
`resources/` take `(sandbox, call)` and return the answer's JSON object, or raise
`errors.Failure`.
"""

from __future__ import annotations

import os
import string
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from billing.stripe_sandbox.clock import SandboxClock
from billing.stripe_sandbox.errors import no_such
from billing.stripe_sandbox.faults import Fault, FaultScript
from billing.stripe_sandbox.store import Doc, Store

API_VERSION = "2026-08-26.dahlia"
"""The version whose shapes are served; a caller's own Stripe-Version is echoed."""

ALPHABET = string.ascii_letters + string.digits

LETTER_OF_BYTE = bytes(ord(ALPHABET[byte % len(ALPHABET)]) for byte in range(256))

DEFAULT_SETTINGS: dict[str, Any] = {
    # How wrong meter events are refused. "sync": HTTP 400. "async": 200, then a thin event.
    "unknown_customer": "sync",
    "bad_timestamp": "sync",
    # Seconds until a meter event shows in summaries and invoices.
    "summary_lag_seconds": 0,
    # Seconds between acceptance and the thin event of an asynchronous rejection.
    "async_reject_seconds": 0,
    # Requests per second; 0 is off. Stripe's own: see docs/sandbox.md.
    "rate_limit_global": 0,
    "rate_limit_endpoint": 0,
    "rate_limit_meter_events": 0,
    # Refuse a second call on the same customer and meter while one runs.
    "one_call_per_customer_and_meter": True,
    # Milliseconds that every API call takes before it is applied.
    "latency_ms": 0,
    # Seconds between a draft invoice and its finalisation (Stripe: 1 h, at most 72 h).
    "finalization_grace_seconds": 3600,
    # "any" (as v1) or "positive_integer": values that v2 takes (the error text says the latter).
    "v2_values": "positive_integer",
    # Hold a draft back, up to 72 h, while an endpoint has not taken `invoice.created`.
    "finalize_waits_for_webhooks": False,
    # "succeed" or "fail": what becomes of an invoice that is charged automatically.
    "invoice_payment": "succeed",
    # "per_item" or "per_tier": lines of a graduated price (unverified which Stripe does).
    "graduated_lines": "per_item",
    # Seconds between attempts to deliver a webhook that failed.
    "webhook_retry_seconds": [1, 5, 30, 120, 600],
    # "sandbox" or "wall": the clock in Stripe-Signature.
    "webhook_signature_clock": "sandbox",
}


@dataclass(frozen=True, slots=True)
class World:
    """One account in one mode: everything that a key can see."""

    account: str
    livemode: bool
    name: str = field(init=False)
    """The name used in storage and in the control API, "test:acct_…"."""

    def __post_init__(self) -> None:
        """Makes the name once: it is used many times a call."""
        object.__setattr__(self, "name", f"{'live' if self.livemode else 'test'}:{self.account}")

    @classmethod
    def named(cls, name: str) -> World:
        """Returns the world of a storage name."""
        mode, _, account = name.partition(":")
        return cls(account=account, livemode=mode == "live")


@dataclass(slots=True)
class Call:
    """One API call: what was asked, by whom, and what the script does to it."""

    method: str
    path: str
    operation: str
    args: dict[str, str]
    params: dict[str, Any]
    world: World
    version: str
    idempotency_key: str
    request_id: str
    effects: list[Fault] = field(default_factory=list)

    def effect(self, kind: str) -> Fault | None:
        """Returns the scripted effect of a kind, if one hit this call."""
        if not self.effects:
            return None
        return next((fault for fault in self.effects if fault.kind == kind), None)


class Sandbox:
    """Everything one sandbox process holds."""

    def __init__(self, path: str = ":memory:", *, clock_offset_file: Path | None = None) -> None:
        self.store = Store(path)
        self.clock = SandboxClock(clock_offset_file)
        self.settings: dict[str, Any] = dict(DEFAULT_SETTINGS)
        self.faults = FaultScript()
        self.revoked_keys: set[str] = set()
        self.stats: Counter[str] = Counter()
        self.next_billing_step = 0.0
        """Moment of the next thing in billing, so that idle ticks cost nothing."""
        self.pruned_at = 0.0
        self.outbox: list[Doc] = []
        """Deliveries that wait for the sender (`delivery.py`)."""
        self._restore()

    def _restore(self) -> None:
        """Takes up settings and clock of an earlier run."""
        self.settings.update(self.store.setting("settings") or {})
        clock = self.store.setting("clock")
        if clock is not None:
            self.clock.restore(clock)
        self.revoked_keys = set(self.store.setting("revoked_keys") or [])

    def save_settings(self) -> None:
        """Keeps settings, clock and revoked keys over a restart."""
        self.store.set_setting("settings", self.settings)
        self.store.set_setting("clock", self.clock.state())
        self.store.set_setting("revoked_keys", sorted(self.revoked_keys))

    def reset(self) -> None:
        """Forgets everything: objects, events, keys, faults, settings, clock."""
        self.store.reset()
        self.clock.reset()
        self.settings = dict(DEFAULT_SETTINGS)
        self.faults.clear()
        self.revoked_keys.clear()
        self.stats.clear()
        self.outbox.clear()
        self.next_billing_step = 0.0

    def find(self, world: World, kind: str, identifier: str, *, param: str = "id") -> Doc:
        """Returns an object or raises Stripe's 404 `resource_missing`."""
        doc = self.store.get(world.name, kind, identifier)
        if doc is None:
            words = KIND_WORDS.get(kind, kind)
            status = 404 if param == "id" else 400
            raise no_such(words, identifier, param=param, status=status)
        return doc

    def time_for(self, world: World, customer: str | None) -> int:
        """Returns the seconds that rule a customer: its test clock's, else the sandbox's."""
        doc = self.store.get(world.name, "customer", customer) if customer else None
        clock_id = doc.get("test_clock") if doc else None
        clock = self.store.get(world.name, "test_clock", clock_id) if clock_id else None
        return int(clock["frozen_time"]) if clock else self.clock.seconds()


KIND_WORDS = {
    "subscription_item": "subscription item",
    "test_clock": "testclock",
    "webhook_endpoint": "webhook endpoint",
}
"""How Stripe's "No such …" names a kind where it differs."""


def new_id(prefix: str, length: int = 24) -> str:
    """Returns an id in Stripe's shape, for example "cus_" and letters and digits."""
    return f"{prefix}_{os.urandom(length).translate(LETTER_OF_BYTE).decode()}"
