"""The demo's operators: two, so that one can approve what the other asks for."""

from datetime import datetime

from django.contrib.auth.models import User

from stripemeter.demo.catalog import TENANTS
from stripemeter.tenancy.members import add_member
from stripemeter.tenancy.models import Membership, Tenant

OPERATORS = {
    "owner@demo.example": Membership.Role.OWNER,
    "maintainer@demo.example": Membership.Role.MAINTAINER,
}


def make_operators(password: str, *, now: datetime) -> None:
    """Let the demo's operators into every demo tenant; again changes nothing but the password."""
    tenants = list(Tenant.objects.filter(key__in=[tenant.key for tenant in TENANTS]))
    for name, role in OPERATORS.items():
        user, _ = User.objects.get_or_create(
            username=name, defaults={"email": name, "is_staff": True}
        )
        user.set_password(password)
        user.save()
        for tenant in tenants:
            if not Membership.objects.filter(tenant=tenant, user=user).exists():
                add_member(tenant_id=tenant.pk, who=name, role=role, actor="demo_data", now=now)
