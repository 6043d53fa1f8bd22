"""Mints and revokes widget sessions."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import uuid_utils
from django.db import transaction

from stripemeter.lib.errors import NotFound, invalid
from stripemeter.tenancy import audit
from stripemeter.tenancy.principals import Principal
from widget import tokens
from widget.models import WidgetSession

LIFETIME_MAX = timedelta(minutes=15)
LIFETIME_DEFAULT = timedelta(minutes=10)
ORIGINS_MAX = 10
METRICS_MAX = 50
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#: Scheme, host and port, nothing more: what goes into frame-ancestors cannot carry a directive.
_ORIGIN = re.compile(
    rf"(?:https://{_LABEL}(?:\.{_LABEL})*|http://(?:localhost|127\.0\.0\.1))(?::[0-9]{{1,5}})?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Minted:
    """A new session and its token, which is not stored."""

    session: WidgetSession
    token: str


def check_origin(origin: str) -> str:
    """``origin`` in lower case if it is exactly scheme, host and port. Raises `InvalidRequest`.

    https, or http on this machine; never a wildcard, a path, or credentials.
    """
    if len(origin) > 255 or not _ORIGIN.fullmatch(origin):
        raise invalid("origins", "must be like https://app.example.com", code="invalid_origin")
    return origin.lower()


@transaction.atomic
def mint_session(
    *,
    principal: Principal,
    customer_ref: str,
    origins: list[str],
    lifetime: timedelta,
    metrics: list[str] | None,
    now: datetime,
) -> Minted:
    """A session for one customer, shown in frames of ``origins``. Raises `InvalidRequest`."""
    if not timedelta(0) < lifetime <= LIFETIME_MAX:
        raise invalid("ttlSeconds", f"must be 1 to {int(LIFETIME_MAX.total_seconds())}")
    checked = list(dict.fromkeys(check_origin(origin) for origin in origins))
    if not 1 <= len(checked) <= ORIGINS_MAX:
        raise invalid("origins", f"must name 1 to {ORIGINS_MAX} origins")
    session = WidgetSession.objects.create(
        id=UUID(int=uuid_utils.uuid7().int),
        tenant_id=principal.tenant_id,
        customer_ref=customer_ref,
        origins=checked,
        metrics=metrics,
        api_key_id=principal.api_key_id,
        created_by=principal.actor,
        created_at=now,
        expires_at=now + lifetime,
    )
    token = tokens.sign(
        tokens.Claims(
            session=session.pk,
            tenant=principal.tenant_key,
            customer=customer_ref,
            origins=tuple(checked),
            issued_at=now,
            expires_at=session.expires_at,
        )
    )
    return Minted(session, token)


@transaction.atomic
def revoke_session(*, principal: Principal, session_id: UUID, now: datetime) -> WidgetSession:
    """End a session at once. Raises `NotFound`."""
    session = (
        WidgetSession.objects.select_for_update()
        .filter(tenant_id=principal.tenant_id, pk=session_id)
        .first()
    )
    if session is None:
        raise NotFound("No such widget session")
    if session.revoked_at is None:
        session.revoked_at = now
        session.save(update_fields=["revoked_at"])
        audit.record(
            tenant_id=principal.tenant_id,
            actor=principal.actor,
            action="widget_session.revoked",
            object_type="widget_session",
            object_id=session.pk,
            now=now,
            after={"customerRef": session.customer_ref},
        )
    return session
