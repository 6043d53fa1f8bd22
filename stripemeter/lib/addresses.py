"""Whose request this is: the peer's address, through proxies that are trusted by name."""

import ipaddress
from collections.abc import Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest

_FORWARDED_MAX = 20
_current: ContextVar[str] = ContextVar("client_address", default="")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@lru_cache(maxsize=8)
def networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """The networks of ``texts`` (addresses or CIDR). Raises ValueError for nonsense."""
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


def within(address: str, allowed: tuple[str, ...]) -> bool:
    """Whether ``address`` lies in one of the networks ``allowed``."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return any((mapped or parsed) in network for network in networks(allowed))


def client_address(meta: Mapping[str, Any]) -> str:
    """The true address of the caller.

    ``X-Forwarded-For`` counts only when the peer is one of ``TRUSTED_PROXIES``, and is read
    from its right end: what a client put in front of it is never believed (ASVS 4.1.3).
    """
    peer = str(meta.get("REMOTE_ADDR") or "")
    if not settings.TRUSTED_PROXIES or "HTTP_X_FORWARDED_FOR" not in meta:
        return peer
    trusted = tuple(settings.TRUSTED_PROXIES)
    hops = str(meta["HTTP_X_FORWARDED_FOR"]).split(",")[-_FORWARDED_MAX:]
    address = peer
    while within(address, trusted) and hops:
        candidate = hops.pop().strip()
        try:
            ipaddress.ip_address(candidate)
        except ValueError:
            break
        address = candidate
    return address


def request_address(request: HttpRequest) -> str:
    """`client_address` of a Django request (the form django-axes calls)."""
    return client_address(request.META)


def begin(meta: Mapping[str, Any]) -> None:
    """Remember the caller's address for the audit rows of this request."""
    _current.set(client_address(meta))


def current() -> str:
    """The address of the request being answered, or an empty string in tasks and commands."""
    return _current.get()
