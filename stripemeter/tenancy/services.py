"""Writes of tenancy: tenants and API keys. Each leaves one audit row."""

from datetime import datetime

from django.db import transaction

from stripemeter.lib.errors import Conflict, InvalidRequest, NotFound
from stripemeter.lib.text import TENANT_KEY
from stripemeter.tenancy import audit, keys
from stripemeter.tenancy.authentication import forget_cached_keys
from stripemeter.tenancy.models import ApiKey, Tenant
from stripemeter.tenancy.scopes import ALL_SCOPES, DEFAULT_SCOPES


@transaction.atomic
def create_tenant(*, key: str, name: str, actor: str, now: datetime) -> Tenant:
    """A new tenant. Raises `InvalidRequest` for a bad key, `Conflict` for one in use."""
    if not TENANT_KEY.fullmatch(key):
        raise InvalidRequest("A tenant id is a slug or UUID of 1 to 63 letters, digits, - and _.")
    if Tenant.objects.filter(key=key).exists():
        raise Conflict(f"Tenant {key} exists already.")
    tenant = Tenant.objects.create(key=key, name=name or key)
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
    if held is not None and not set(wanted) <= held:
        missing = ", ".join(sorted(set(wanted) - held))
        raise InvalidRequest(
            f"A key cannot grant scopes it does not hold: {missing}", code="scope_escalation"
        )
    return sorted(set(wanted))


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
    rotated_from: ApiKey | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its plaintext, which is never seen again.

    ``held`` bounds the scopes to those of the key that asks. Raises `InvalidRequest`.
    """
    granted = _check_scopes(list(scopes or DEFAULT_SCOPES), held=held)
    if expires_at is not None and expires_at <= now:
        raise InvalidRequest("expiresAt lies in the past.", code="invalid_expiry")
    new = keys.make_key(live=live)
    key = ApiKey.objects.create(
        tenant_id=tenant_id,
        name=name,
        lookup=new.lookup,
        digest=new.digest,
        scopes=granted,
        created_by=actor,
        expires_at=expires_at,
        rotated_from=rotated_from,
    )
    audit.record(
        tenant_id=tenant_id,
        actor=actor,
        action="api_key.created",
        object_type="api_key",
        object_id=key.pk,
        now=now,
        after={"name": name, "lookup": new.lookup, "scopes": granted, "expiresAt": expires_at},
    )
    return key, new.plaintext


def _locked(tenant_id: int, key_id: int) -> ApiKey:
    key = ApiKey.objects.select_for_update().filter(tenant_id=tenant_id, pk=key_id).first()
    if key is None:
        raise NotFound("No such API key")
    return key


@transaction.atomic
def rotate_api_key(
    *,
    tenant_id: int,
    key_id: int,
    actor: str,
    now: datetime,
    old_expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """A successor with the same scopes. The old key ends at ``old_expires_at``, or now.

    Raises `NotFound`, `Conflict` for a revoked key.
    """
    old = _locked(tenant_id, key_id)
    if old.revoked_at is not None:
        raise Conflict("A revoked key cannot be rotated; create a new one.")
    new, plaintext = create_api_key(
        tenant_id=tenant_id,
        name=old.name,
        actor=actor,
        now=now,
        scopes=list(old.scopes),
        rotated_from=old,
    )
    old.expires_at = max(old_expires_at or now, now)
    old.save(update_fields=["expires_at"])
    transaction.on_commit(forget_cached_keys)
    return new, plaintext


@transaction.atomic
def revoke_api_key(*, tenant_id: int, key_id: int, actor: str, now: datetime) -> ApiKey:
    """End a key for good; other processes follow within five seconds. Raises `NotFound`."""
    key = _locked(tenant_id, key_id)
    if key.revoked_at is None:
        key.revoked_at = now
        key.save(update_fields=["revoked_at"])
        audit.record(
            tenant_id=tenant_id,
            actor=actor,
            action="api_key.revoked",
            object_type="api_key",
            object_id=key.pk,
            now=now,
        )
    transaction.on_commit(forget_cached_keys)
    return key
