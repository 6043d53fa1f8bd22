"""What stands before every handler: keys, rate limits, idempotency, locks."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from dataclasses import dataclass
from typing import Any

from billing.stripe_sandbox.engine import Call, Sandbox, World
from billing.stripe_sandbox.errors import Failure, rate_limited, unauthorized

KEY_PATTERN = re.compile(r"^(sk|rk)_(test|live)_[A-Za-z0-9_]{3,}$")

ACCOUNT_IN_KEY = re.compile(r"^(?:sk|rk)_(?:test|live)_5(1[A-Za-z0-9]{15})[A-Za-z0-9]{8,}$")
"""Stripe's own keys carry the account after the first character: sk_test_5<account>…"""

DEFAULT_ACCOUNT = "acct_1SandboxDefault0"

MEMORY_SECONDS = 24 * 3600
"""How long identifiers and v1 idempotency keys are remembered (DOC: at least 24 hours)."""

V2_MEMORY_SECONDS = 30 * 86_400
"""How long v2 idempotency keys are remembered (DOC)."""

KEY_LENGTH_MAX = 255


def api_key_of(headers: dict[str, str]) -> str:
    """Returns the API key from Bearer or Basic authorisation, or raises 401."""
    authorization = headers.get("authorization", "")
    scheme, _, credential = authorization.partition(" ")
    if scheme.lower() == "bearer" and credential:
        return credential.strip()
    if scheme.lower() == "basic" and credential:
        try:
            return base64.b64decode(credential).decode().partition(":")[0]
        except ValueError:
            pass
    raise unauthorized(
        "You did not provide an API key. You need to provide your API key in the Authorization "
        "header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
    )


def world_of(sandbox: Sandbox, headers: dict[str, str]) -> World:
    """Returns the account and mode that the call sees, or raises 401/403.

    Keys of Stripe's own shape name their account; any other well-formed key sees
    the default account. `Stripe-Account` selects a connected account.
    """
    key = api_key_of(headers)
    session = sandbox.store.get("sessions", "meter_session", key)
    if session is not None:
        return _world_of_session(sandbox, session)
    match = KEY_PATTERN.match(key)
    if match is None or key in sandbox.revoked_keys:
        raise unauthorized(f"Invalid API Key provided: {key[:8]}****{key[-4:]}")
    named = ACCOUNT_IN_KEY.match(key)
    account = f"acct_{named[1]}" if named else DEFAULT_ACCOUNT
    connected = headers.get("stripe-account", "") or headers.get("stripe-context", "")
    if connected and connected != account:
        if not re.fullmatch(r"acct_[A-Za-z0-9_]{3,}", connected):
            raise Failure(
                f"The provided key '{key[:8]}****{key[-4:]}' does not have access to account "
                f"'{connected}' (or that account does not exist).",
                status=403,
                code="account_invalid",
            )
        account = connected
    return World(account=account, livemode=match[2] == "live")


def _world_of_session(sandbox: Sandbox, session: dict[str, Any]) -> World:
    """Returns the world of a meter-event session's token, while it is good."""
    if session["expires"] <= sandbox.clock.now():
        raise Failure(
            "The billing meter event session has expired.",
            status=401,
            code="billing_meter_event_session_expired",
            version=2,
        )
    return World.named(session["world"])


@dataclass(slots=True)
class _Bucket:
    """A token bucket that holds one second's worth."""

    tokens: float
    at: float

    def take(self, per_second: float) -> bool:
        now = time.monotonic()
        self.tokens = min(per_second, self.tokens + (now - self.at) * per_second)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class RateLimits:
    """Token buckets per world; on the machine's clock, not the sandbox's."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def clear(self) -> None:
        """Fills all buckets again."""
        self._buckets.clear()

    def check(self, sandbox: Sandbox, world: World, operation: str) -> None:
        """Raises 429 with its reason when a bucket is empty. A limit of 0 is off.

        Live meter events have their own limit; in test mode they count towards
        the global one (DOC rate-limits).
        """
        settings = sandbox.settings
        if world.livemode and operation == "POST /v1/billing/meter_events":
            self._take(world, operation, settings["rate_limit_meter_events"], "endpoint-rate")
            return
        self._take(world, "", settings["rate_limit_global"], "global-rate")
        self._take(world, operation, settings["rate_limit_endpoint"], "endpoint-rate")

    def _take(self, world: World, name: str, per_second: float, reason: str) -> None:
        if per_second <= 0:
            return
        key = (world.name, name)
        bucket = self._buckets.setdefault(key, _Bucket(per_second, time.monotonic()))
        if not bucket.take(per_second):
            raise rate_limited(reason)


@dataclass(frozen=True, slots=True)
class Remembered:
    """The stored answer of an earlier call with the same Idempotency-Key."""

    status: int
    body: bytes
    request_id: str


def fingerprint(call: Call) -> str:
    """Returns a digest of what a key may be used for: method, path and parameters."""
    text = json.dumps([call.method, call.path, call.params], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def recall(sandbox: Sandbox, call: Call) -> Remembered | None:
    """Returns the stored answer for the call's key, or None when the key is new.

    Raises `idempotency_error` when the key was used for something else.
    """
    key = call.idempotency_key
    if not key:
        return None
    if len(key) > KEY_LENGTH_MAX:
        raise Failure(
            f"Idempotency key is too long: at most {KEY_LENGTH_MAX} characters",
            type="idempotency_error",
        )
    row = sandbox.store.db.execute(
        "SELECT * FROM idempotency WHERE world = ? AND key = ?", (call.world.name, key)
    ).fetchone()
    memory = V2_MEMORY_SECONDS if call.path.startswith("/v2/") else MEMORY_SECONDS
    if row is None or row["at"] <= sandbox.clock.now() - memory:
        return None
    if row["path"] != f"{call.method} {call.path}":
        raise Failure(
            "Keys for idempotent requests can only be used for the same endpoint they were first "
            f"used for ('{call.path}' vs '{row['path'].partition(' ')[2]}'). Try using a key other "
            f"than '{key}' if you meant to execute a different request.",
            type="idempotency_error",
        )
    if row["fingerprint"] != fingerprint(call):
        raise Failure(
            "Keys for idempotent requests can only be used with the same parameters they were "
            f"first used with. Try using a key other than '{key}' if you meant to execute a "
            "different request.",
            type="idempotency_error",
        )
    if call.path.startswith("/v2/") and row["status"] >= 400:
        return None  # v2 executes again what failed (DOC)
    return Remembered(status=row["status"], body=row["body"], request_id=row["request"])


def remember(sandbox: Sandbox, call: Call, status: int, body: bytes) -> None:
    """Stores the answer under the call's key, inside the caller's transaction."""
    if not call.idempotency_key or call.method == "GET":
        return
    sandbox.store.db.execute(
        "INSERT OR REPLACE INTO idempotency VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            call.world.name,
            call.idempotency_key,
            fingerprint(call),
            f"{call.method} {call.path}",
            status,
            body,
            call.request_id,
            sandbox.clock.now(),
        ),
    )


def meter_pair(call: Call) -> tuple[str, str, str] | None:
    """Returns (world, event name, customer) of a meter-event call: what it locks."""
    if not call.operation.endswith("/billing/meter_events"):
        return None
    payload: dict[str, Any] = call.params.get("payload") or {}
    # The customer key may be renamed per meter; the id itself is told by its shape.
    customer = payload.get("stripe_customer_id") or next(
        (value for value in payload.values() if str(value).startswith("cus_")), ""
    )
    return call.world.name, str(call.params.get("event_name", "")), str(customer)


def forget_old_keys(sandbox: Sandbox) -> None:
    """Deletes stored answers whose time is over. Call inside a transaction."""
    now = sandbox.clock.now()
    sandbox.store.db.execute(
        "DELETE FROM idempotency WHERE at <= ? OR (at <= ? AND path NOT LIKE '% /v2/%')",
        (now - V2_MEMORY_SECONDS, now - MEMORY_SECONDS),
    )
