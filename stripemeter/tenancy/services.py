"""Writes of tenancy: tenants and API keys. Each leaves one audit row."""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction

from stripemeter.lib.errors import Conflict, InvalidRequest, NotFound
from stripemeter.lib.text import TENANT_KEY
from stripemeter.tenancy import audit, keys
from stripemeter.tenancy.models import ApiKey, Tenant
from stripemeter.tenancy.recognition import forget_cached_keys
from stripemeter.tenancy.scopes import ALL_SCOPES, DEFAULT_SCOPES, reach

#: How long a rotated key may go on working beside its successor, at most.
OVERLAP_MAX = timedelta(days=7)


@transaction.atomic
def create_tenant(*, key: str, name: str, actor: str, now: datetime) -> Tenant:
    """A new tenant. Raises `InvalidRequest` for a bad key, `Conflict` for one in use."""
    if not TENANT_KEY.fullmatch(key):
        raise InvalidRequest("A tenant id is a slug or UUID of 1 to 63 letters, digits, - and _.")
    if Tenant.objects.filter(key=key).exists():
        raise Conflict(f"Tenant {key} exists already.")
    tenant = Tenant.objects.create(
        key=key, name=name or key, lateness_window_hours=settings.LATE_EVENT_WINDOW_HOURS
    )
    audit.record(
        tenant_id=tenant.pk,
        actor=actor,
        action="tenant.created",
        object_type="tenant",
        object_id=key,
        now=now,
        after={"key": key, "name": tenant.name},
    )
    return tenant


def _check_scopes(wanted: list[str], *, held: frozenset[str] | None) -> list[str]:
    unknown = sorted(set(wanted) - ALL_SCOPES)
    if unknown:
        raise InvalidRequest(f"Unknown scopes: {', '.join(unknown)}", code="unknown_scope")
    missing = set() if held is None else set(wanted) - reach(held)
    if missing:
        raise InvalidRequest(
            f"A key cannot grant scopes it does not hold: {', '.join(sorted(missing))}",
            code="scope_escalation",
        )
    return sorted(set(wanted))


def _described(key: ApiKey) -> dict[str, Any]:
    return {
        "name": key.name,
        "prefix": key.prefix,
        "scopes": key.scopes,
        "expiresAt": key.expires_at,
    }


def _insert(
    *,
    tenant_id: int,
    name: str,
    actor: str,
    scopes: list[str],
    expires_at: datetime | None,
    live: bool,
    rotated_from: ApiKey | None = None,
) -> tuple[ApiKey, str]:
    new = keys.make_key(live=live)
    key = ApiKey.objects.create(
        tenant_id=tenant_id,
        name=name,
        lookup=new.lookup,
        is_live=live,
        digest=new.digest,
        scopes=scopes,
        created_by=actor,
        expires_at=expires_at,
        rotated_from=rotated_from,
    )
    key.refresh_from_db(fields=["created_at"])
    return key, new.plaintext


@transaction.atomic
def create_api_key(
    *,
    tenant_id: int,
    name: str,
    actor: str,
    now: datetime,
    scopes: list[str] | None = None,
    expires_at: datetime | None = None,
    live: bool = True,
    held: frozenset[str] | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its plaintext, which is never seen again.

    ``held`` bounds the scopes to those of the key that asks. Raises `InvalidRequest`.
    """
    granted = _check_scopes(list(DEFAULT_SCOPES if scopes is None else scopes), held=held)
    if not granted:
        raise InvalidRequest("A key needs at least one scope.", code="no_scopes")
    if expires_at is not None and expires_at <= now:
        raise InvalidRequest("expiresAt lies in the past.", code="invalid_expiry")
    key, plaintext = _insert(
        tenant_id=tenant_id,
        name=name,
        actor=actor,
        scopes=granted,
        expires_at=expires_at,
        live=live,
    )
    audit.record(
        tenant_id=tenant_id,
        actor=actor,
        action="api_key.created",
        object_type="api_key",
        object_id=key.lookup,
        now=now,
        after=_described(key),
    )
    return key, plaintext


def _locked(tenant_id: int, lookup: str) -> ApiKey:
    key = ApiKey.objects.select_for_update().filter(tenant_id=tenant_id, lookup=lookup).first()
    if key is None:
        raise NotFound("No such API key")
    return key


@transaction.atomic
def rotate_api_key(
    *,
    tenant_id: int,
    lookup: str,
    actor: str,
    now: datetime,
    overlap: timedelta = timedelta(0),
    held: frozenset[str] | None = None,
) -> tuple[ApiKey, str]:
    """A successor with the same scopes and lifetime; the old key works ``overlap`` longer.

    Rotation never lengthens the old key's life, and ``held`` bounds it to scopes the asking
    key holds: its plaintext would grant them. Raises `NotFound`, `InvalidRequest`, and
    `Conflict` for a key that has ended.
    """
    old = _locked(tenant_id, lookup)
    if old.status(now) != "active":
        raise Conflict("A key that was revoked or has expired cannot be rotated; create a new one.")
    if not timedelta(0) <= overlap <= OVERLAP_MAX:
        raise InvalidRequest("The overlap may be at most 7 days.", code="invalid_overlap")
    _check_scopes(list(old.scopes), held=held)
    lifetime = None if old.expires_at is None else old.expires_at - old.created_at
    new, plaintext = _insert(
        tenant_id=tenant_id,
        name=old.name,
        actor=actor,
        scopes=list(old.scopes),
        expires_at=None if lifetime is None else now + lifetime,
        live=old.is_live,
        rotated_from=old,
    )
    before = _described(old)
    old.expires_at = min(old.expires_at or now + overlap, now + overlap)
    old.save(update_fields=["expires_at"])
    audit.record(
        tenant_id=tenant_id,
        actor=actor,
        action="api_key.rotated",
        object_type="api_key",
        object_id=old.lookup,
        now=now,
        before=before,
        after=_described(old) | {"successor": new.prefix},
    )
    transaction.on_commit(forget_cached_keys)
    return new, plaintext


@transaction.atomic
def revoke_api_key(*, tenant_id: int, lookup: str, actor: str, now: datetime) -> ApiKey:
    """End a key for good; other processes follow within five seconds.

    Revoking a revoked key changes nothing. Raises `NotFound`.
    """
    key = _locked(tenant_id, lookup)
    if key.revoked_at is None:
        key.revoked_at = now
        key.save(update_fields=["revoked_at"])
        audit.record(
            tenant_id=tenant_id,
            actor=actor,
            action="api_key.revoked",
            object_type="api_key",
            object_id=key.lookup,
            now=now,
            before=_described(key),
        )
        transaction.on_commit(forget_cached_keys)
    return key
