"""Widget tokens: signed, for one purpose, under a key and salt of their own.

HMAC-SHA256 through Django's signer, one algorithm, no header that could choose another.
A token is not a session: it lives at most 15 minutes and dies with its session row and with
the API key that minted it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core import signing

AUDIENCE = "widget"
_SALT = "stripemeter.widget.token.v1"
TOKEN_CHARS_MAX = 4_096
#: Clocks of two of our own processes may differ by this much.
_SKEW_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says."""

    session: UUID
    tenant: str
    customer: str
    origins: tuple[str, ...]
    issued_at: datetime
    expires_at: datetime


class InvalidToken(Exception):
    """Not a token of ours, or not valid now."""


def _signer() -> signing.Signer:
    return signing.Signer(key=settings.WIDGET_SIGNING_KEY, salt=_SALT, algorithm="sha256")


def sign(claims: Claims) -> str:
    """The token of ``claims``."""
    payload = {
        "aud": AUDIENCE,
        "jti": claims.session.hex,
        "tenant": claims.tenant,
        "customer": claims.customer,
        "origins": list(claims.origins),
        "iat": int(claims.issued_at.timestamp()),
        "exp": int(claims.expires_at.timestamp()),
    }
    return _signer().sign_object(payload)


def read(token: str, *, now: datetime) -> Claims:
    """The claims of a token that is valid at ``now``. Raises `InvalidToken`."""
    if not token or len(token) > TOKEN_CHARS_MAX or not token.isascii():
        raise InvalidToken
    try:
        payload: Any = _signer().unsign_object(token)
        claims = Claims(
            session=UUID(payload["jti"]),
            tenant=str(payload["tenant"]),
            customer=str(payload["customer"]),
            origins=tuple(payload["origins"]),
            issued_at=datetime.fromtimestamp(payload["iat"], UTC),
            expires_at=datetime.fromtimestamp(payload["exp"], UTC),
        )
        audience = payload["aud"]
    except (signing.BadSignature, ValueError, KeyError, TypeError) as error:
        raise InvalidToken from error
    if audience != AUDIENCE or claims.expires_at <= now:
        raise InvalidToken
    if (claims.issued_at - now).total_seconds() > _SKEW_SECONDS:
        raise InvalidToken
    return claims
