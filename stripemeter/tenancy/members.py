"""Who works in a tenant: people are added, change role and leave. Each leaves one audit row."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import Q

from stripemeter.lib.errors import Conflict, NotFound, invalid
from stripemeter.lib.text import FORBIDDEN
from stripemeter.tenancy import audit
from stripemeter.tenancy.models import Membership, Tenant

NAME_CHARS_MAX = 150
_DECIDING = (Membership.Role.MAINTAINER, Membership.Role.OWNER)


@dataclass(frozen=True, slots=True)
class Added:
    """A new member; ``is_new`` if the person has no password yet and needs an invitation."""

    membership: Membership
    is_new: bool


def _record(
    action: str,
    membership: Membership,
    *,
    actor: str,
    now: datetime,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    audit.record(
        tenant_id=membership.tenant_id,
        actor=actor,
        action=f"membership.{action}",
        object_type="membership",
        object_id=membership.user.get_username(),
        now=now,
        before=before,
        after=after,
    )


def _check_role(role: str) -> None:
    if role not in Membership.Role.values:
        raise invalid("role", "must be viewer, maintainer or owner")


def _person(who: str) -> tuple[User, bool]:
    """The operator called ``who``, made anew if that is the e-mail address of nobody."""
    if not 1 <= len(who) <= NAME_CHARS_MAX or FORBIDDEN.search(who):
        raise invalid("who", f"must have 1 to {NAME_CHARS_MAX} plain characters")
    found = list(User.objects.filter(Q(username=who) | Q(email__iexact=who))[:2])
    if len(found) > 1:
        raise invalid("who", "several people have that address; give the user name")
    if found:
        return found[0], False
    try:
        validate_email(who)
    except ValidationError as error:
        raise invalid(
            "who", "no operator is called that; give an e-mail address to invite somebody new"
        ) from error
    return User.objects.create_user(who.lower(), email=who, is_staff=True), True


@transaction.atomic
def add_member(*, tenant_id: int, who: str, role: str, actor: str, now: datetime) -> Added:
    """Let a person work in the tenant; an unknown e-mail address becomes a new operator.

    Raises `InvalidRequest`, or `Conflict` for a member, a closed account, and for somebody
    whom another tenant has invited and who has not signed in yet: until then whoever sent
    that invitation could use it, and must not get into this tenant by it.
    """
    _check_role(role)
    tenant = Tenant.objects.select_for_update().get(pk=tenant_id)
    user, is_new = _person(who)
    if not is_new:
        if Membership.objects.filter(tenant_id=tenant_id, user=user).exists():
            raise Conflict(f"{user.get_username()} is a member already; change the role instead.")
        if not user.is_active:
            raise Conflict(f"The account of {user.get_username()} is closed.")
        if not user.has_usable_password():
            raise Conflict(
                f"{user.get_username()} was invited elsewhere and has not signed in yet."
            )
        if not user.is_staff:
            user.is_staff = True
            user.save(update_fields=["is_staff"])
    membership = Membership.objects.create(tenant_id=tenant_id, user=user, role=role)
    _record("created", membership, actor=actor, now=now, after={"role": role, "invited": is_new})
    _bring_back_four_eyes(tenant, actor=actor, now=now)
    return Added(membership, is_new)


def _locked(tenant_id: int, user_id: int) -> tuple[Tenant, Membership]:
    """The tenant's row is the lock: two owners cannot leave at the same time."""
    tenant = Tenant.objects.select_for_update().get(pk=tenant_id)
    membership = (
        Membership.objects.select_related("user")
        .filter(tenant_id=tenant_id, user_id=user_id)
        .first()
    )
    if membership is None:
        raise NotFound("No such member")
    return tenant, membership


def _keep_an_owner(membership: Membership) -> None:
    others = Membership.objects.filter(
        tenant_id=membership.tenant_id, role=Membership.Role.OWNER, user__is_active=True
    ).exclude(pk=membership.pk)
    if membership.role == Membership.Role.OWNER and not others.exists():
        raise Conflict(
            "The last owner stays owner: make somebody else an owner first.", code="last_owner"
        )


@transaction.atomic
def change_role(*, tenant_id: int, user_id: int, role: str, actor: str, now: datetime) -> bool:
    """Give a member another role; False if it was that already.

    Raises `InvalidRequest`, `NotFound`, or `Conflict` for the last owner.
    """
    _check_role(role)
    tenant, membership = _locked(tenant_id, user_id)
    if membership.role == role:
        return False
    _keep_an_owner(membership)
    before = {"role": membership.role}
    membership.role = role
    membership.save(update_fields=["role"])
    _record("changed", membership, actor=actor, now=now, before=before, after={"role": role})
    _bring_back_four_eyes(tenant, actor=actor, now=now)
    return True


@transaction.atomic
def remove_member(*, tenant_id: int, user_id: int, actor: str, now: datetime) -> Membership:
    """End a membership at once; what the person did stays on record.

    Raises `NotFound`, or `Conflict` for the last owner.
    """
    _, membership = _locked(tenant_id, user_id)
    _keep_an_owner(membership)
    _record("ended", membership, actor=actor, now=now, before={"role": membership.role})
    membership.delete()
    return membership


def _bring_back_four_eyes(tenant: Tenant, *, actor: str, now: datetime) -> None:
    """A tenant with a second person who decides no longer approves its own requests."""
    if not tenant.single_operator or operators_who_decide(tenant.pk) < 2:
        return
    tenant.single_operator = False
    tenant.save(update_fields=["single_operator"])
    audit.record(
        tenant_id=tenant.pk,
        actor=actor,
        action="tenant.changed",
        object_type="tenant",
        object_id=tenant.key,
        now=now,
        before={"singleOperator": True},
        after={"singleOperator": False},
    )


def operators_who_decide(tenant_id: int) -> int:
    """How many people may approve something in the tenant."""
    return Membership.objects.filter(
        tenant_id=tenant_id, role__in=_DECIDING, user__is_active=True
    ).count()


@transaction.atomic
def invited(*, tenant_id: int, user_id: int, actor: str, now: datetime) -> User:
    """The member for whom a new invitation may be made. Raises `NotFound`, `Conflict`.

    Only while the person never signed in and belongs to no other tenant.
    """
    _, membership = _locked(tenant_id, user_id)
    user = membership.user
    elsewhere = Membership.objects.filter(user=user).exclude(tenant_id=tenant_id).exists()
    if user.has_usable_password() or elsewhere or user.is_superuser or not user.is_active:
        raise Conflict("Only somebody who has never signed in can be invited again.")
    _record("invited", membership, actor=actor, now=now)
    return user
