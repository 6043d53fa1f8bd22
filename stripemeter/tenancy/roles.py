"""What an operator may do in the admin: superusers everything, members what their role allows."""

from typing import Any

from django.db.models import QuerySet

from stripemeter.tenancy.models import Membership, Tenant

#: Each role may do what the one before it may, and more.
RANKS = {
    Membership.Role.VIEWER.value: 1,
    Membership.Role.MAINTAINER.value: 2,
    Membership.Role.OWNER.value: 3,
}
SUPERUSER_RANK = 4


def tenants_of(user: Any, *, at_least: str = "viewer") -> QuerySet[Tenant]:
    """The tenants in which ``user`` has this role or a higher one."""
    if not getattr(user, "is_active", False):
        return Tenant.objects.none()
    if user.is_superuser:
        return Tenant.objects.all()
    roles = [role for role, rank in RANKS.items() if rank >= RANKS[at_least]]
    return Tenant.objects.filter(
        memberships__user=user, memberships__role__in=roles, is_active=True
    ).distinct()


def may(user: Any, role: str, *, tenant_id: int | None = None) -> bool:
    """Whether ``user`` has ``role`` or a higher one, in this tenant or, if None, in any.

    What a person object once learned it keeps: it lives for one request, and the admin asks
    for every registered model.
    """
    if not getattr(user, "is_active", False):
        return False
    if user.is_superuser:
        return tenant_id is None or Tenant.objects.filter(pk=tenant_id).exists()
    held: dict[int, int] | None = getattr(user, "_ranks_by_tenant", None)
    if held is None:
        memberships = Membership.objects.filter(user=user, tenant__is_active=True)
        held = {each: RANKS[name] for each, name in memberships.values_list("tenant_id", "role")}
        user._ranks_by_tenant = held
    wanted = held.values() if tenant_id is None else [held.get(tenant_id, 0)]
    return any(rank >= RANKS[role] for rank in wanted)


def actor_of(user: Any) -> str:
    """How audit rows and adjustments name an operator."""
    return f"user:{user.get_username()}"
