"""Members: who works in the tenant, with which role; invitations for people who are new."""

import logging
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import views as auth_views
from django.contrib.auth.models import User
from django.contrib.auth.tokens import default_token_generator
from django.core.mail import send_mail
from django.db import transaction
from django.forms import Form
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse, reverse_lazy
from django.utils.cache import patch_cache_control
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_POST

from stripemeter.lib import clock
from stripemeter.lib.pages import back
from stripemeter.ops.passwords import check_password
from stripemeter.tenancy import audit
from stripemeter.tenancy import members as writes
from stripemeter.tenancy.models import Membership
from stripemeter.tenancy.operators import operator_page

logger = logging.getLogger(__name__)
_NO_MAIL = {
    "django.core.mail.backends.console.EmailBackend",
    "django.core.mail.backends.dummy.EmailBackend",
}


@require_GET
@operator_page("owner")
def members(request: Any) -> HttpResponse:
    """Everybody who works in the tenant."""
    return _page(request)


def _page(request: Any, *, invitation: str = "", invited: User | None = None) -> HttpResponse:
    tenant = request.operator.tenant
    rows = list(
        Membership.objects.filter(tenant=tenant).select_related("user").order_by("user__username")
    )
    owners = [row for row in rows if row.role == "owner" and row.user.is_active]
    context = {
        "title": "Members",
        "rows": [
            {
                "membership": row,
                "is_last_owner": owners == [row],
                "is_self": row.user_id == request.operator.user.pk,
                "waits": not row.user.has_usable_password(),
            }
            for row in rows
        ],
        "roles": Membership.Role.choices,
        "invitation": invitation,
        "invited": invited,
        "is_mailed": bool(invitation) and settings.EMAIL_BACKEND not in _NO_MAIL,
        "days": settings.PASSWORD_RESET_TIMEOUT // 86_400,
    }
    response = render(request, "ops/members.html", context)
    patch_cache_control(response, no_store=True)
    return response


@sensitive_post_parameters("current_password")
@require_POST
@operator_page("owner")
def add_member(request: Any) -> HttpResponse:
    """Add a person; somebody new gets an invitation, shown this once."""
    check_password(request)
    added = writes.add_member(
        tenant_id=request.operator.tenant.pk,
        who=str(request.POST.get("who", "")).strip(),
        role=str(request.POST.get("role", "")),
        actor=request.operator.actor,
        now=clock.now(),
    )
    user = added.membership.user
    if added.is_new:
        return _invite(request, user)
    messages.success(request, f"{user.get_username()} works here now.")
    return back(request, reverse("ops:members"))


@sensitive_post_parameters("current_password")
@require_POST
@operator_page("owner")
def invite_again(request: Any, user_id: int) -> HttpResponse:
    """Another invitation for somebody who has never signed in."""
    check_password(request)
    user = writes.invited(
        tenant_id=request.operator.tenant.pk,
        user_id=user_id,
        actor=request.operator.actor,
        now=clock.now(),
    )
    return _invite(request, user)


def _invite(request: Any, user: User) -> HttpResponse:
    """The page with the link by which the person chooses a password."""
    place = reverse(
        "ops:invitation",
        args=[
            urlsafe_base64_encode(force_bytes(user.pk)),
            default_token_generator.make_token(user),
        ],
    )
    link = f"{settings.PUBLIC_URL}{place}"
    if settings.EMAIL_BACKEND not in _NO_MAIL:
        tenant = request.operator.tenant
        try:
            send_mail(
                f"StripeMeter: work in {tenant.name}",
                f"{request.operator.user.get_username()} invites you to {tenant.name}.\n\n"
                f"Choose a password: {link}\n",
                None,
                [user.email],
            )
        except OSError:
            logger.exception("The invitation of user %s could not be mailed", user.pk)
    return _page(request, invitation=link, invited=user)


@sensitive_post_parameters("current_password")
@require_POST
@operator_page("owner")
def change_role(request: Any, user_id: int) -> HttpResponse:
    """Give a member another role, from the next request on."""
    check_password(request)
    changed = writes.change_role(
        tenant_id=request.operator.tenant.pk,
        user_id=user_id,
        role=str(request.POST.get("role", "")),
        actor=request.operator.actor,
        now=clock.now(),
    )
    messages.success(request, "The role is changed." if changed else "It was that role already.")
    return back(request, reverse("ops:members"))


@require_POST
@operator_page("owner")
def remove_member(request: Any, user_id: int) -> HttpResponse:
    """End a membership, from the next request on."""
    gone = writes.remove_member(
        tenant_id=request.operator.tenant.pk,
        user_id=user_id,
        actor=request.operator.actor,
        now=clock.now(),
    )
    messages.success(request, f"{gone.user.get_username()} works here no more.")
    return back(request, reverse("ops:members"))


class Invitation(auth_views.PasswordResetConfirmView):
    """Where an invited person chooses a password; the link works once, for three days."""

    template_name = "ops/invitation.html"
    success_url = reverse_lazy("admin:login")
    title = "Choose a password"

    def form_valid(self, form: Form) -> HttpResponse:
        """Save the password, with its audit row."""
        with transaction.atomic():
            name = self.user.get_username()  # type: ignore[union-attr]
            audit.record(
                tenant_id=None,
                actor=f"user:{name}",
                action="user.invitation_accepted",
                object_type="user",
                object_id=name,
                now=clock.now(),
            )
            return super().form_valid(form)  # type: ignore[arg-type]
