"""Which requests are counted against which bucket.

Every tenant has a bucket of ``TENANT_RATE_LIMIT`` tokens a window for each route class, so
that nobody's dashboard starves anybody's ingest, and no tenant another. Dear requests
(replay, backfill, export) take more than one token: a view says ``rate_cost``.
"""

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from stripemeter.lib import metrics
from stripemeter.lib.addresses import client_address
from stripemeter.lib.errors import TooManyRequests
from stripemeter.lib.ratelimit import Verdict, limiter
from stripemeter.tenancy.principals import Principal

#: Failed credentials an address may show in ten seconds before they are answered with 429.
BAD_KEY_LIMIT = 60
BAD_KEY_WINDOW_SECONDS = 10


def too_many(verdict: Verdict, detail: str) -> TooManyRequests:
    """The refusal, with its headers."""
    return TooManyRequests(detail, headers=verdict.headers())


def throttle(principal: Principal, *, rate_class: str, cost: int = 1) -> Verdict:
    """Count one request of ``principal``. Raises `TooManyRequests`.

    Call it before the body is read: what is answered 429 was never looked at.
    """
    verdict = limiter.take(
        f"tenant:{principal.tenant_id}:{rate_class}",
        limit=settings.TENANT_RATE_LIMIT,
        window_seconds=settings.TENANT_RATE_LIMIT_WINDOW,
        cost=cost,
    )
    if verdict.allowed and settings.KEY_RATE_LIMIT and principal.api_key_id is not None:
        verdict = limiter.take(
            f"key:{principal.api_key_id}:{rate_class}",
            limit=settings.KEY_RATE_LIMIT,
            window_seconds=settings.TENANT_RATE_LIMIT_WINDOW,
            cost=cost,
        )
    if not verdict.allowed:
        metrics.rate_limited.labels(rate_class, "tenant").inc()
        raise too_many(verdict, "Rate limit exceeded; Retry-After says when to come back.")
    return verdict


def count_bad_credential(meta: Mapping[str, Any]) -> None:
    """Count a failed credential against the true peer address. Raises `TooManyRequests`."""
    verdict = limiter.take(
        f"bad-key:{client_address(meta)}",
        limit=BAD_KEY_LIMIT,
        window_seconds=BAD_KEY_WINDOW_SECONDS,
    )
    if not verdict.allowed:
        metrics.rate_limited.labels("authentication", "bad_credential").inc()
        raise too_many(verdict, "Too many invalid credentials from this address.")
