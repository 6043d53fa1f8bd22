"""Reads the credential of an API request and decides what it may do.

Recognising a key costs microseconds: the principal of a key's digest is kept in process
for at most five seconds, which is also how fast a revocation takes effect everywhere.
"""

import hmac
import ipaddress
import threading
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.http import HttpRequest

from stripemeter.lib import clock, metrics, rowsecurity
from stripemeter.lib.errors import Unauthenticated
from stripemeter.tenancy import keys, scopes
from stripemeter.tenancy.models import ApiKey, Tenant
from stripemeter.tenancy.principals import Principal
from stripemeter.tenancy.throttling import count_bad_credential

CACHE_SECONDS = 5.0
CACHE_ENTRIES_MAX = 10_000
LAST_USED_EVERY = timedelta(minutes=1)

_cache: dict[bytes, tuple[float, Principal]] = {}
_cache_lock = threading.Lock()


def credential_of(meta: Mapping[str, Any]) -> str | None:
    """The key text of a request: ``Authorization`` (Bearer or bare) wins over ``X-API-Key``."""
    authorization = meta.get("HTTP_AUTHORIZATION")
    if authorization is not None:
        scheme, _, rest = authorization.partition(" ")
        if rest and scheme.lower() == "bearer":
            return str(rest).strip()
        return str(authorization).strip()
    api_key = meta.get("HTTP_X_API_KEY")
    return None if api_key is None else str(api_key).strip()


def principal_for(plaintext: str, *, now: datetime) -> Principal | None:
    """The principal of a valid key, else None."""
    lookup = keys.lookup_of(plaintext)
    digest = keys.digest_of(plaintext)
    if lookup is None:
        return None
    moment = time.monotonic()
    cached = _cache.get(digest)
    if cached is not None and moment < cached[0]:
        return cached[1]
    principal = _load(lookup, digest, now=now)
    if principal is not None:
        with _cache_lock:
            if len(_cache) >= CACHE_ENTRIES_MAX:
                _cache.clear()
            _cache[digest] = (moment + CACHE_SECONDS, principal)
    return principal


def forget_cached_keys() -> None:
    """Drop the cache of this process (a revocation here takes effect at once)."""
    _cache.clear()


def _load(lookup: str, digest: bytes, *, now: datetime) -> Principal | None:
    rowsecurity.widen()  # the key says which tenant it is, so none is known yet
    key = ApiKey.objects.select_related("tenant").filter(lookup=lookup).first()
    # A dummy comparison keeps unknown and wrong keys alike in time.
    stored = bytes(key.digest) if key is not None else bytes(32)
    matches = hmac.compare_digest(stored, digest)
    if key is None or not matches or key.revoked_at or not key.tenant.is_active:
        return None
    if key.expires_at is not None and key.expires_at <= now:
        return None
    if key.last_used_at is None or now - key.last_used_at >= LAST_USED_EVERY:
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)
    return Principal(
        tenant_id=key.tenant_id,
        tenant_key=key.tenant.key,
        actor=f"key:{key.lookup}",
        scopes=frozenset(key.scopes),
        api_key_id=key.pk,
        api_key_lookup=key.lookup,
        is_live=key.is_live,
    )


def _open_demo_principal(request: HttpRequest) -> Principal | None:
    """The demo tenant's principal for a loopback caller of `make demo`; nothing else is open."""
    demo = settings.OPEN_DEMO_TENANT
    if not demo or settings.PRODUCTION or "HTTP_X_FORWARDED_FOR" in request.META:
        return None
    try:
        if not ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback:
            return None
    except ValueError:
        return None
    tenant = Tenant.objects.filter(key=demo, is_active=True).first()
    if tenant is None:
        return None
    return Principal(
        tenant_id=tenant.pk,
        tenant_key=tenant.key,
        actor="demo",
        scopes=scopes.ALL_SCOPES,
    )


def authenticate_request(request: HttpRequest) -> Principal:
    """The principal of ``request``. Raises `Unauthenticated`."""
    plaintext = credential_of(request.META)
    if plaintext is None:
        demo = _open_demo_principal(request)
        if demo is not None:
            return demo
        problem = Unauthenticated("Missing API key", code="missing_api_key")
    else:
        principal = principal_for(plaintext, now=clock.now())
        if principal is not None:
            return principal
        problem = Unauthenticated("Invalid API key", code="invalid_api_key")
    route = request.resolver_match.route if request.resolver_match else "unmatched"
    metrics.auth_failures.labels(route, request.method or "").inc()
    if plaintext is not None:
        count_bad_credential(request.META)
    raise problem
