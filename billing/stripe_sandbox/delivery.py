"""Delivery of events: signed, at least once, in no promised order.

Each endpoint has its own queue, so that a slow one holds up nobody else. Waiting
and held deliveries live in memory: a restart of the sandbox loses them, as a
receiver must expect of any webhook.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import random
import time
from collections import deque
from typing import Any

import httpx

from billing.stripe_sandbox.answers import render
from billing.stripe_sandbox.engine import Sandbox, World
from billing.stripe_sandbox.faults import WEBHOOK_KINDS, Fault
from billing.stripe_sandbox.outbox import note_delivery
from billing.stripe_sandbox.store import Doc

TIMEOUT_SECONDS = 20.0
LOG_LINES_MAX = 1_000


def signature(body: bytes, secret: str, timestamp: int) -> str:
    """Returns the value of `Stripe-Signature`: HMAC-SHA256 over "<t>.<body>"."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256)
    return f"t={timestamp},v1={digest.hexdigest()}"


class Deliverer:
    """Sends what waits in the sandbox's outbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.held: list[Doc] = []
        """Deliveries that a `webhook_hold` fault keeps until they are released."""
        self.log: deque[dict[str, Any]] = deque(maxlen=LOG_LINES_MAX)
        self._woken = asyncio.Event()
        self._running = asyncio.Lock()

    def wake(self) -> None:
        """Tells the background task that something waits."""
        if self.sandbox.outbox:
            self._woken.set()

    async def sleep(self, seconds: float) -> None:
        """Waits until woken, at most so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), seconds)
        self._woken.clear()

    def clear(self) -> None:
        """Forgets what waits, what is held, and the log."""
        self.sandbox.outbox.clear()
        self.held.clear()
        self.log.clear()

    async def run_due(self, *, force: bool = False) -> int:
        """Sends what is due (everything that waits with `force`); returns how much."""
        async with self._running:
            now = time.monotonic()
            waiting = self.sandbox.outbox[:]
            due = [row for row in waiting if force or row["due"] <= now]
            self.sandbox.outbox[:] = [row for row in waiting if row not in due]
            if not due:
                return 0
            queues: dict[str, list[Doc]] = {}
            for row in due:
                queues.setdefault(row["endpoint"], []).append(row)
            async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
                await asyncio.gather(
                    *(self._send_queue(client, queue) for queue in queues.values())
                )
            return len(due)

    def release(self, order: str | list[str], seed: int = 0) -> int:
        """Queues the held deliveries in an order: "forward", "reverse", "shuffle", or ids."""
        held, self.held = self.held, []
        if order == "reverse":
            held.reverse()
        elif order == "shuffle":
            random.Random(seed).shuffle(held)  # noqa: S311
        elif isinstance(order, list):
            held.sort(key=lambda row: order.index(row["event"]) if row["event"] in order else 0)
        for row in held:
            row["released"] = True
        self.sandbox.outbox.extend(held)
        self._woken.set()
        return len(held)

    async def _send_queue(self, client: httpx.AsyncClient, rows: list[Doc]) -> None:
        for row in rows:
            await self._deliver(client, row)

    async def _deliver(self, client: httpx.AsyncClient, row: Doc) -> None:
        """Makes one delivery the way the script wants it."""
        world = World.named(row["world"])
        endpoint = self.sandbox.store.get(world.name, row["kind"], row["endpoint"])
        event = self.sandbox.store.get(world.name, row["event_kind"], row["event"])
        if endpoint is None or event is None or endpoint["status"] != "enabled":
            return
        url = str(endpoint["_url"])
        faults: dict[str, Fault] = {}
        if not row.get("released"):
            picked = self.sandbox.faults.pick(
                WEBHOOK_KINDS, world=world.name, path=url, event_type=event["type"]
            )
            faults = {fault.kind: fault for fault in picked}
        if "webhook_drop" in faults:
            self._note(row, "dropped")
            return
        if "webhook_hold" in faults:
            self.held.append(row)
            return
        if "webhook_delay" in faults:
            await asyncio.sleep(faults["webhook_delay"].seconds)
        twice = faults.get("webhook_duplicate")
        times = 1 + (int(twice.options.get("times", 1)) if twice else 0)
        body = self._body(world, row, event)
        forged = faults.get("webhook_forge")
        for _ in range(times):
            await self._post(client, row, url, body, str(endpoint["_secret"]), forged)

    def _body(self, world: World, row: Doc, event: Doc) -> bytes:
        """Returns the body: a snapshot event whole, a thin event without its data."""
        shown = render(self.sandbox, world, row["event_kind"], event)
        if row["event_kind"] == "v2_event":
            shown.pop("data", None)
        return json.dumps(shown, indent=2).encode()

    async def _post(
        self,
        client: httpx.AsyncClient,
        row: Doc,
        url: str,
        body: bytes,
        secret: str,
        forged: Fault | None,
    ) -> None:
        """Posts once; queues the next attempt when it fails."""
        wall = self.sandbox.settings["webhook_signature_clock"] == "wall"
        moment = int(time.time() if wall else self.sandbox.clock.now())
        if forged is not None:
            secret = str(forged.options.get("secret", secret))
            moment += int(forged.options.get("timestamp_shift", 0))
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": signature(body, secret, moment),
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        }
        try:
            answer = await client.post(url, content=body, headers=headers)
            outcome = str(answer.status_code)
            delivered = answer.is_success
        except httpx.HTTPError as error:
            outcome, delivered = type(error).__name__, False
        self._note(row, outcome)
        self.sandbox.stats["webhooks.delivered" if delivered else "webhooks.failed"] += 1
        if delivered and row["event_kind"] == "event":
            with self.sandbox.store.transaction():
                note_delivery(
                    self.sandbox, World.named(row["world"]), row["event"], row["endpoint"]
                )
        waits = self.sandbox.settings["webhook_retry_seconds"]
        if not delivered and row["attempt"] < len(waits):
            due = time.monotonic() + float(waits[row["attempt"]])
            self.sandbox.outbox.append(row | {"attempt": row["attempt"] + 1, "due": due})

    def _note(self, row: Doc, outcome: str) -> None:
        self.log.append(
            {name: row[name] for name in ("world", "endpoint", "event", "type", "attempt")}
            | {"outcome": outcome, "at": self.sandbox.clock.now()}
        )
