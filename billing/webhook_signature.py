"""Stripe's webhook signatures, checked on raw bytes with bounded work. Pure.

``Stripe-Signature: t=<unix>,v1=<hex>[,v1=<hex>...]`` over ``<t>.<body>`` with HMAC-SHA256.
Unlike Stripe's library this refuses timestamps from the future as well: a signature that
is valid for ever would otherwise be one clock away.
"""

import hashlib
import hmac
from collections.abc import Iterable
from datetime import datetime

TOLERANCE_SECONDS = 300
HEADER_CHARS_MAX = 4_096
SIGNATURES_MAX = 16
_DIGEST_CHARS = 64


def refusal(header: str, body: bytes, *, secrets: Iterable[str], now: datetime) -> str | None:
    """Why ``body`` is not from Stripe; None if one signature under one secret holds."""
    if not header:
        return "no Stripe-Signature header"
    if len(header) > HEADER_CHARS_MAX or not header.isascii():
        return "malformed Stripe-Signature header"
    stamp, candidates = _parts(header)
    if stamp is None or not candidates:
        return "Stripe-Signature needs t and v1"
    if abs(now.timestamp() - stamp) > TOLERANCE_SECONDS:
        return "the signature's timestamp is too far from now"
    signed = f"{stamp}.".encode() + body
    for secret in secrets:
        wanted = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
        if any(hmac.compare_digest(wanted, each) for each in candidates):
            return None
    return "no signature fits"


def _parts(header: str) -> tuple[int | None, list[str]]:
    stamp: int | None = None
    candidates: list[str] = []
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name == "t" and stamp is None and value.isdigit() and len(value) <= 12:
            stamp = int(value)
        elif name == "v1" and len(value) == _DIGEST_CHARS:
            candidates.append(value)
            if len(candidates) > SIGNATURES_MAX:
                return None, []
    return stamp, candidates
