"""Reads of tenancy. Every one starts from a tenant."""

from stripemeter.lib.errors import NotFound
from stripemeter.tenancy.models import ApiKey, Tenant


def api_key(*, tenant_id: int, lookup: str) -> ApiKey:
    """One key of the tenant. Raises `NotFound`, the same for foreign and unknown ids."""
    key = (
        ApiKey.objects.defer("digest")
        .select_related("tenant", "rotated_from")
        .filter(tenant_id=tenant_id, lookup=lookup)
        .first()
    )
    if key is None:
        raise NotFound("No such API key")
    return key


def api_keys(*, tenant_id: int, before_id: int | None = None, limit: int = 50) -> list[ApiKey]:
    """The tenant's keys, newest first, from below ``before_id``; at most ``limit``."""
    found = (
        ApiKey.objects.defer("digest")
        .select_related("tenant", "rotated_from")
        .filter(tenant_id=tenant_id)
        .order_by("-id")
    )
    if before_id is not None:
        found = found.filter(id__lt=before_id)
    return list(found[:limit])


def tenant_by_key(key: str) -> Tenant:
    """The tenant with this id on the wire. Raises `NotFound`."""
    tenant = Tenant.objects.filter(key=key).first()
    if tenant is None:
        raise NotFound(f"No tenant {key}")
    return tenant
