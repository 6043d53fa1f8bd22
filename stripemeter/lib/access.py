"""Who may see the inside of the service: numbers, readiness detail, the API's description."""

import hmac
from collections.abc import Mapping
from typing import Any

from django.conf import settings

from stripemeter.lib.addresses import client_address, within


def is_internal(meta: Mapping[str, Any]) -> bool:
    """Whether the caller stands on an internal network or shows the metrics token.

    Outside production everybody does. A forwarded request counts by the address that a
    trusted proxy names; one forwarded by anybody else never does, so that a proxy on
    loopback that was not declared opens nothing.
    """
    if not settings.PRODUCTION:
        return True
    token = settings.METRICS_TOKEN
    if token:
        shown = str(meta.get("HTTP_AUTHORIZATION", "")).removeprefix("Bearer ")
        if hmac.compare_digest(shown.encode(), token.encode()):
            return True
    peer = str(meta.get("REMOTE_ADDR") or "")
    forwarded = "HTTP_X_FORWARDED_FOR" in meta or "HTTP_FORWARDED" in meta
    if forwarded and not within(peer, tuple(settings.TRUSTED_PROXIES)):
        return False
    return within(client_address(meta), tuple(settings.INTERNAL_NETWORKS))
