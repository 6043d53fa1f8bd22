"""What makes two posts the same event, and what makes them differ.

The *key* says which event it is: 128 bits, unique for ever within a tenant. The
*fingerprint* covers everything the event says: same key and same fingerprint is a
duplicate, same key and another fingerprint a conflict.

- A key that is a UUID version 7 keeps its own bits: time-ordered keys keep the index local.
- Any other key text is digested under its own domain tag.
- Without a key, one is derived: 48 bits of event time in milliseconds (again for the index),
  then the digest of tenant and fingerprinted content. It is marked version 8 (RFC 9562), so it
  can never equal a given version 7 key.

Fields are joined by a unit separator, a character validation keeps out of every field.
"""

import re
from hashlib import blake2b

from ledger.wire import Columns

_UUID7 = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII
)
_MILLISECONDS_1970_TO_2000 = 946_684_800_000
_VERSION_8 = 0x8 << 76
_VARIANT = 0x2 << 62
_CLEAR = ~((0xF << 76) | (0x3 << 62)) & (2**128 - 1)


def key_of_text(key: str) -> bytes:
    """The 16 bytes of a key given by the caller."""
    if len(key) == 36 and key[14] == "7" and _UUID7.fullmatch(key):
        return bytes.fromhex(key.replace("-", ""))
    return blake2b(b"key\x1f" + key.encode(), digest_size=16).digest()


def derived_key(tenant_id: int, ts_us: int, fingerprint: bytes) -> bytes:
    """The 16 bytes of an event that came without a key."""
    digest = blake2b(b"derived\x1f%d\x1f" % tenant_id + fingerprint, digest_size=10).digest()
    milliseconds = ts_us // 1000 + _MILLISECONDS_1970_TO_2000
    value = (milliseconds << 80) | int.from_bytes(digest)
    return ((value & _CLEAR) | _VERSION_8 | _VARIANT).to_bytes(16)


def fingerprints(columns: Columns) -> list[bytes]:
    """16 bytes per event over metric, customer, resource, exact time, quantity, source, meta."""
    digests = []
    for metric, customer, resource, ts_us, quantity, source, meta in zip(
        columns.metrics,
        columns.customers,
        columns.resources,
        columns.ts_us,
        columns.quantities,
        columns.sources,
        columns.metas,
        strict=True,
    ):
        content = (
            f"{metric}\x1f{customer}\x1f{resource or ''}\x1f{ts_us}\x1f{quantity}\x1f{source}\x1f"
        ).encode()
        digests.append(blake2b(content + (meta or b""), digest_size=16).digest())
    return digests


def keys(columns: Columns, prints: list[bytes], *, tenant_id: int) -> list[bytes]:
    """16 bytes per event: the given key's, or a derived one."""
    return [
        derived_key(tenant_id, ts_us, fingerprint) if key is None else key_of_text(key)
        for key, ts_us, fingerprint in zip(columns.keys, columns.ts_us, prints, strict=True)
    ]
