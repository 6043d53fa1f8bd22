"""Members, invitations and the tenant's settings."""

import re
from decimal import Decimal

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse

from stripemeter.lib import clock, redisclient
from stripemeter.lib.errors import Conflict, Forbidden
from stripemeter.lib.ratelimit import limiter
from stripemeter.tenancy import members
from stripemeter.tenancy.models import AuditEntry, Membership, Tenant
from tests.ops.conftest import Office

SETTINGS = {
    "name": "Acme Ltd", "lateness_window_hours": "72", "late_policy": "review",
    "adjustment_cap": "12.5", "epsilon": "0.01",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _empty_buckets() -> None:
    redisclient.client().flushdb()
    limiter.forget()


def member_url(action: str, name: str) -> str:
    user = get_user_model().objects.get(username=name)
    return reverse(f"ops:member-{action}", args=[user.pk])


def test_somebody_new_is_invited_once_chooses_a_password_and_signs_in(office: Office) -> None:
    owner = office.sign_in("owner")
    form = {"who": "New@example.com", "role": "maintainer", "current_password": "x"}
    page = owner.post(reverse("ops:member-add"), form)
    link = re.search(r"https?://[^/]+(/admin/invitation/[\w/-]+/)<", page.content.decode())
    assert link
    assert "no-store" in page["Cache-Control"]
    assert "/admin/invitation/" not in owner.get(reverse("ops:members")).content.decode()
    guest = Client()
    place = guest.get(link[1])["Location"]
    assert guest.get(place).status_code == 200
    word = "long enough to be safe"
    assert guest.post(place, {"new_password1": word, "new_password2": word}).status_code == 302
    assert "no longer works" in Client().get(link[1]).content.decode()
    guest.post("/admin/login/?next=/admin/", {"username": "new@example.com", "password": word})
    assert "maintainer" in guest.get("/admin/").content.decode()
    actions = AuditEntry.objects.filter(object_id="new@example.com").values_list("action", "actor")
    assert set(actions) == {
        ("membership.created", "user:owner-person"),
        ("user.invitation_accepted", "user:new@example.com"),
    }


def test_nobody_invited_elsewhere_can_be_added_before_signing_in(office: Office) -> None:
    owner = office.sign_in("owner", tenant=office.globex)
    form = {"who": "new@example.com", "role": "owner", "current_password": "x"}
    assert owner.post(reverse("ops:member-add"), form).status_code == 200
    ours = office.sign_in("owner", name="ours")
    assert ours.post(reverse("ops:member-add"), form).status_code == 409
    assert not Membership.objects.filter(tenant=office.acme, user__email=form["who"]).exists()


def test_an_operator_is_added_changed_and_removed_by_an_owner_only(office: Office) -> None:
    office.sign_in("viewer", name="their-viewer", tenant=office.globex)
    form = {"who": "their-viewer", "role": "viewer", "current_password": "x"}
    for role in ("viewer", "maintainer"):
        client = office.sign_in(role)
        assert client.get(reverse("ops:members")).status_code == 403
        assert client.post(reverse("ops:member-add"), form).status_code == 403
    owner = office.sign_in("owner")
    assert (
        owner.post(reverse("ops:member-add"), form | {"current_password": "y"}).status_code == 403
    )
    assert owner.post(reverse("ops:member-add"), form | {"role": "king"}).status_code == 400
    assert owner.post(reverse("ops:member-add"), form | {"who": "nobody"}).status_code == 400
    assert owner.post(reverse("ops:member-add"), form).status_code == 302
    assert owner.post(reverse("ops:member-add"), form).status_code == 409
    url = member_url("role", "their-viewer")
    assert owner.post(url, {"role": "maintainer", "current_password": "x"}).status_code == 302
    here = Membership.objects.get(tenant=office.acme, user__username="their-viewer")
    assert here.role == "maintainer"
    assert owner.post(member_url("remove", "their-viewer")).status_code == 302
    assert owner.post(member_url("remove", "their-viewer")).status_code == 404
    rows = AuditEntry.objects.filter(tenant=office.acme, object_id="their-viewer")
    assert list(rows.order_by("sequence").values_list("action", "before", "after")) == [
        ("membership.created", None, {"role": "viewer", "invited": False}),
        ("membership.changed", {"role": "viewer"}, {"role": "maintainer"}),
        ("membership.ended", {"role": "maintainer"}, None),
    ]
    assert Membership.objects.filter(tenant=office.globex, user=here.user).exists()


def test_the_last_owner_neither_leaves_nor_steps_down(office: Office) -> None:
    owner = office.sign_in("owner")
    role = {"role": "viewer", "current_password": "x"}
    assert owner.post(member_url("remove", "owner-person"), role).status_code == 409
    assert owner.post(member_url("role", "owner-person"), role).status_code == 409
    membership = Membership.objects.get(tenant=office.acme)
    admin = get_user_model().objects.create_superuser("root", password="x")
    root = Client()
    root.force_login(admin, backend="django.contrib.auth.backends.ModelBackend")
    place = f"/admin/tenancy/membership/{membership.pk}"
    root.post(f"{place}/delete/", {"post": "yes"})
    root.post(f"{place}/change/", {"role": "viewer", "_save": "Save"})
    membership.refresh_from_db()
    assert membership.role == "owner"
    office.sign_in("owner", name="second")
    assert owner.post(member_url("remove", "owner-person")).status_code == 302
    assert owner.get(reverse("ops:home")).status_code == 403


def test_settings_are_checked_changed_by_owners_and_on_record(office: Office) -> None:
    url = reverse("ops:settings")
    assert office.sign_in("viewer").get(url).status_code == 403
    maintainer = office.sign_in("maintainer")
    assert maintainer.get(url).status_code == 200
    assert maintainer.post(url, SETTINGS).status_code == 403
    owner = office.sign_in("owner")
    for name, wrong in {
        "name": "", "lateness_window_hours": "1e3", "late_policy": "drop",
        "adjustment_cap": "-1", "epsilon": "1.1",
    }.items():  # fmt: skip
        answer = owner.post(url, SETTINGS | {name: wrong})
        assert answer.status_code == 400, name
        assert answer.content.decode().count('aria-invalid="true"') == (name != "late_policy")
    assert owner.post(url, SETTINGS).status_code == 302
    tenant = Tenant.objects.get(pk=office.acme.pk)
    assert (tenant.name, tenant.lateness_window_hours, tenant.late_policy) == (
        "Acme Ltd", 72, "review",
    )  # fmt: skip
    assert (tenant.adjustment_cap, tenant.epsilon) == (Decimal("12.5"), Decimal("0.01"))
    row = AuditEntry.objects.get(tenant=tenant, action="tenant.changed")
    assert row.after == {
        "name": "Acme Ltd", "lateness_window_hours": 72, "late_policy": "review",
        "adjustment_cap": "12.5", "epsilon": "0.01",
    }  # fmt: skip
    assert "Nothing changed" in owner.post(url, SETTINGS, follow=True).content.decode()


def test_a_cap_takes_effect_and_four_eyes_come_back_with_a_second_person(office: Office) -> None:
    owner = office.sign_in("owner")
    alone = SETTINGS | {"single_operator": "on", "adjustment_cap": "4"}
    assert owner.post(reverse("ops:settings"), alone).status_code == 302
    waiting = office.adjustment(actor="user:owner-person")
    approve = reverse("ops:adjustment-approve", args=[waiting.pk])
    assert owner.post(approve).status_code == 302
    office.sign_in("viewer", name="second", tenant=office.globex)
    members.add_member(
        tenant_id=office.acme.pk, who="second", role="maintainer", actor="t", now=clock.now()
    )
    assert not Tenant.objects.get(pk=office.acme.pk).single_operator
    assert owner.post(reverse("ops:settings"), alone).status_code == 409
    mine = office.adjustment(actor="user:owner-person")
    refused = owner.post(reverse("ops:adjustment-approve", args=[mine.pk]))
    assert refused.status_code == Forbidden("").status
    second = Client()
    second.force_login(
        get_user_model().objects.get(username="second"),
        backend="django.contrib.auth.backends.ModelBackend",
    )
    second.post(reverse("ops:choose-tenant"), {"tenant": "acme"})
    told = second.post(reverse("ops:adjustment-approve", args=[mine.pk]))
    assert "larger than 4" in told.content.decode()


def test_two_owners_cannot_leave_at_once(office: Office) -> None:
    office.sign_in("owner", name="one")
    office.sign_in("owner", name="two")
    ids = list(Membership.objects.filter(tenant=office.acme).values_list("user_id", flat=True))
    members.remove_member(
        tenant_id=office.acme.pk, user_id=ids[0], actor="user:two", now=clock.now()
    )
    with pytest.raises(Conflict, match="last owner"):
        members.remove_member(
            tenant_id=office.acme.pk, user_id=ids[1], actor="user:one", now=clock.now()
        )
