"""Idempotency keys: UUID version 7 (RFC 9562, section 5.7).

Time-ordered keys keep the server's unique index local; 74 random bits keep them unique.
The standard library gets `uuid.uuid7` only in Python 3.14, and the wheel depends on httpx alone.
"""

import os
import time
import uuid

_VERSION_7 = 0x7 << 76
_VARIANT_RFC9562 = 0b10 << 62


def new_key() -> str:
    """Return a fresh UUIDv7 as text (48 bits of Unix milliseconds, 74 random bits)."""
    unix_ms = time.time_ns() // 1_000_000
    entropy = int.from_bytes(os.urandom(10), "big")
    rand_a = (entropy >> 62) & 0xFFF
    rand_b = entropy & ((1 << 62) - 1)
    value = (unix_ms & ((1 << 48) - 1)) << 80
    return str(uuid.UUID(int=value | _VERSION_7 | rand_a << 64 | _VARIANT_RFC9562 | rand_b))
