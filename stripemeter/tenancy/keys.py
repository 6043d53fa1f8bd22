"""API keys: how they are made, stored and recognised.

``sm_live_<lookup><secret><checksum>``: 12 characters to look the key up by, 43 of secret
(256 bits) and 6 of CRC-32 in base 62, so that a scanner or a typo is recognised offline.
Only HMAC-SHA256(pepper, key) is stored; slow hashes are for passwords, not for 256 random bits.
"""

import hmac
import secrets
import zlib
from dataclasses import dataclass

from django.conf import settings

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LOOKUP_CHARS = 12
SECRET_CHARS = 43
CHECKSUM_CHARS = 6
_PREFIXES = ("sm_live_", "sm_test_")
KEY_CHARS = len(_PREFIXES[0]) + LOOKUP_CHARS + SECRET_CHARS + CHECKSUM_CHARS


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made: the only time its plaintext exists."""

    plaintext: str
    lookup: str
    digest: bytes


def _checksum(body: str) -> str:
    value = zlib.crc32(body.encode("ascii"))
    characters = []
    for _ in range(CHECKSUM_CHARS):
        value, remainder = divmod(value, 62)
        characters.append(_ALPHABET[remainder])
    return "".join(reversed(characters))


def digest_of(plaintext: str) -> bytes:
    """The 32 bytes stored for a key."""
    return hmac.digest(
        settings.API_KEY_PEPPER.encode("utf-8"), plaintext.encode("utf-8", "replace"), "sha256"
    )


def make_key(*, live: bool = True) -> NewKey:
    """A fresh key of 256 random bits."""
    prefix = _PREFIXES[0] if live else _PREFIXES[1]
    lookup = "".join(secrets.choice(_ALPHABET) for _ in range(LOOKUP_CHARS))
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(SECRET_CHARS))
    body = f"{prefix}{lookup}{secret}"
    plaintext = body + _checksum(body)
    return NewKey(plaintext=plaintext, lookup=lookup, digest=digest_of(plaintext))


def lookup_of(plaintext: str) -> str | None:
    """The lookup part of a well-formed key, else None: no database work for garbage."""
    if len(plaintext) != KEY_CHARS or not plaintext.isascii():
        return None
    if not plaintext.startswith(_PREFIXES):
        return None
    body, checksum = plaintext[:-CHECKSUM_CHARS], plaintext[-CHECKSUM_CHARS:]
    if not hmac.compare_digest(_checksum(body), checksum):
        return None
    start = len(_PREFIXES[0])
    return plaintext[start : start + LOOKUP_CHARS]
