"""Clients of Stripe's SDK: one per mode, no retries of its own, bounded in time.

Egress goes to the configured base addresses and nowhere else: proxies of the
environment are not read and redirects are not followed.
"""

import os
import threading
from functools import lru_cache
from typing import Any

import stripe
from django.conf import settings

from billing.stripe.transport import PooledClient

stripe.enable_telemetry = False

_PREFIXES = {"live": ("sk_live_", "rk_live_"), "test": ("sk_test_", "rk_test_")}
#: Seconds for a connection, and for an answer, while a person or a service waits for ours.
HASTY_SECONDS = 1.0
_lock = threading.Lock()


class KeyMissing(Exception):
    """No secret key is configured for the mode; nothing can be sent there."""


class KeyOfWrongMode(Exception):
    """The configured key belongs to the other mode; nothing may be sent with it."""


def secret_key(mode: str) -> str:
    """The secret key of ``mode`` (live, test). Raises `KeyMissing`, `KeyOfWrongMode`.

    The prefix is compared with the mode, so that a mistyped setting can never send test
    usage with a live key or the reverse.
    """
    if mode == "live":
        key, name = settings.STRIPE_SECRET_KEY, "STRIPE_SECRET_KEY"
    elif mode == "test":
        key, name = settings.STRIPE_TEST_SECRET_KEY, "STRIPE_TEST_SECRET_KEY"
    else:
        raise ValueError(f"unknown mode {mode!r}")
    if not key:
        raise KeyMissing(f"{name} is not set")
    if not key.startswith(_PREFIXES[mode]):
        raise KeyOfWrongMode(f"{name} is not a {mode} key")
    return str(key)


def has_key(mode: str) -> bool:
    """Whether a key of the right mode is configured."""
    try:
        secret_key(mode)
    except (KeyMissing, KeyOfWrongMode):
        return False
    return True


def client_for(mode: str, *, hasty: bool = False) -> stripe.StripeClient:
    """The client of ``mode`` for the settings in force. Raises as `secret_key` does.

    A ``hasty`` one gives up after `HASTY_SECONDS`: for reads that a request can do without.
    """
    with _lock:
        return _client(
            secret_key(mode),
            settings.STRIPE_API_BASE,
            settings.STRIPE_METER_EVENTS_BASE,
            settings.STRIPE_API_VERSION,
            hasty,
        )


def stream_client(token: str) -> stripe.StripeClient:
    """A client that authenticates with a meter event stream's session token."""
    return _build(
        token,
        settings.STRIPE_API_BASE,
        settings.STRIPE_METER_EVENTS_BASE,
        settings.STRIPE_API_VERSION,
    )


@lru_cache(maxsize=16)
def _client(
    key: str, api: str, meter_events: str, version: str, hasty: bool
) -> stripe.StripeClient:
    return _build(key, api, meter_events, version, hasty=hasty)


def _build(
    key: str, api: str, meter_events: str, version: str, *, hasty: bool = False
) -> stripe.StripeClient:
    return stripe.StripeClient(
        key,
        base_addresses={"api": api, "meter_events": meter_events},
        stripe_version=version,
        max_network_retries=0,
        http_client=_shared_transport(hasty),
    )


@lru_cache(maxsize=2)
def _shared_transport(hasty: bool) -> PooledClient:
    """One pool of connections for all clients of the process; keys travel in headers."""
    return PooledClient(connect=HASTY_SECONDS, read=HASTY_SECONDS) if hasty else PooledClient()


def _forget() -> None:
    """A forked child must not share its parent's connections."""
    _shared_transport.cache_clear()
    _client.cache_clear()


os.register_at_fork(after_in_child=_forget)


def options_for(account: str, *, idempotency_key: str | None = None) -> Any:
    """Per-call options: the connected account, unless it is the key's own, and the key."""
    options: dict[str, str] = {}
    if account != "default":
        options["stripe_account"] = account
    if idempotency_key is not None:
        options["idempotency_key"] = idempotency_key
    return options
