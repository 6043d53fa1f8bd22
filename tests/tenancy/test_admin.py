"""The operators' pages: roles, audit, secrets shown once, sessions that end."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from pytest_django import Settings

from stripemeter.lib import redisclient
from stripemeter.lib.ratelimit import limiter
from stripemeter.tenancy import roles
from stripemeter.tenancy.models import ApiKey, AuditEntry, Membership, Tenant
from stripemeter.tenancy.recognition import forget_cached_keys, principal_for
from tests.builders.tenancy import Caller

PASSWORD = "correct horse battery staple"
ADD = "/admin/tenancy/apikey/add/"


@pytest.fixture(autouse=True)
def _empty_buckets() -> None:
    redisclient.client().flushdb()
    limiter.forget()


def operator(role: str | None, tenant: Tenant | None = None, name: str = "olga") -> Client:
    user = get_user_model().objects.create_user(name, password=PASSWORD, is_staff=True)
    if role is None:
        user.is_superuser = True
        user.save()
    else:
        assert tenant is not None
        Membership.objects.create(tenant=tenant, user=user, role=role)
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def new_key(client: Client, tenant: Tenant, **changes: Any) -> Any:
    form = {
        "tenant": tenant.pk, "name": "importer", "scopes": ["project:read"],
        "current_password": PASSWORD, "expires_at_0": "", "expires_at_1": "", "_save": "Save",
    }  # fmt: skip
    return client.post(ADD, form | changes)


def test_every_admin_page_needs_a_log_in(acme: Caller) -> None:
    for path in ("/admin/", "/admin/tenancy/apikey/", ADD, "/admin/tenancy/auditentry/"):
        answer = Client().get(path)
        assert answer.status_code == 302
        assert answer["Location"].startswith("/admin/login/")
        assert b"acme" not in answer.content


def test_a_key_is_made_by_an_owner_shown_once_and_audited(acme: Caller, globex: Caller) -> None:
    client = operator("owner", acme.tenant)
    answer = new_key(client, acme.tenant)
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    key = ApiKey.objects.get(name="importer")
    start = answer.content.decode().index(key.prefix)
    plaintext = answer.content.decode()[start : start + 69]
    principal = principal_for(plaintext, now=key.created_at)
    assert principal is not None
    assert principal.tenant_key == "acme"
    assert plaintext not in str(client.cookies) + str(dict(client.session))
    again = client.get(f"/admin/tenancy/apikey/{key.pk}/change/").content.decode()
    assert plaintext not in again
    row = AuditEntry.objects.get(action="api_key.created", object_id=key.lookup)
    assert (row.actor, row.tenant) == ("user:olga", acme.tenant)


@pytest.mark.parametrize("role", ["viewer", "maintainer"])
def test_lower_roles_look_and_do_not_touch(acme: Caller, globex: Caller, role: str) -> None:
    client = operator(role, acme.tenant)
    page = client.get("/admin/tenancy/apikey/")
    assert page.status_code == 200
    assert acme.key.lookup in page.content.decode()
    assert globex.key.lookup not in page.content.decode()
    assert new_key(client, acme.tenant).status_code == 403
    change = f"/admin/tenancy/apikey/{acme.key.pk}/change/"
    assert (
        client.post(
            change, {"tenancy_apikey_revoke": "1", "current_password": PASSWORD}
        ).status_code
        == 403
    )
    acme.key.refresh_from_db()
    assert acme.key.revoked_at is None


def test_an_owner_reaches_only_the_own_tenant(acme: Caller, globex: Caller) -> None:
    client = operator("owner", acme.tenant)
    assert new_key(client, globex.tenant).status_code == 200  # the form again, with an error
    assert not ApiKey.objects.filter(name="importer").exists()
    foreign = client.get(f"/admin/tenancy/apikey/{globex.key.pk}/change/")
    assert foreign.status_code == 302  # as for an id that does not exist
    listing = client.get("/admin/tenancy/tenant/").content.decode()
    assert "globex" not in listing


@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_new_key_needs_the_password_again(acme: Caller, password: str) -> None:
    client = operator("owner", acme.tenant)
    assert b"sm_live_" not in new_key(client, acme.tenant, current_password=password).content
    assert not ApiKey.objects.filter(name="importer").exists()


def test_the_password_cannot_be_tried_for_ever(acme: Caller) -> None:
    client = operator("owner", acme.tenant)
    for _ in range(5):
        new_key(client, acme.tenant, current_password="wrong")
    assert b"Too many tries" in new_key(client, acme.tenant).content
    assert not ApiKey.objects.filter(name="importer").exists()


def test_a_key_is_rotated_and_revoked_by_form_and_never_by_link(acme: Caller) -> None:
    client = operator("owner", acme.tenant)
    change = f"/admin/tenancy/apikey/{acme.key.pk}/change/"
    client.get(f"{change}?tenancy_apikey_rotate=1&tenancy_apikey_revoke=1")
    assert ApiKey.objects.count() == 1
    rotated = client.post(
        change, {"tenancy_apikey_rotate": "1", "at_once": "on", "current_password": PASSWORD}
    )
    successor = ApiKey.objects.get(rotated_from=acme.key)
    assert successor.prefix in rotated.content.decode()
    forget_cached_keys()
    change = f"/admin/tenancy/apikey/{successor.pk}/change/"
    client.post(change, {"tenancy_apikey_revoke": "1", "current_password": PASSWORD})
    successor.refresh_from_db()
    assert successor.revoked_at is not None
    actions = list(AuditEntry.objects.filter(actor="user:olga").values_list("action", flat=True))
    assert sorted(actions) == ["api_key.revoked", "api_key.rotated"]


def test_the_audit_trail_is_read_only(acme: Caller) -> None:
    client = operator(None)
    entry = AuditEntry.objects.first()
    assert entry is not None
    assert client.get("/admin/tenancy/auditentry/").status_code == 200
    page = f"/admin/tenancy/auditentry/{entry.pk}/change/"
    assert client.get(page).status_code == 200
    assert client.post(page, {"actor": "nobody"}).status_code == 403
    assert client.get("/admin/tenancy/auditentry/add/").status_code == 403
    assert client.get(page.replace("change", "delete")).status_code == 403


def test_changing_a_tenant_leaves_before_and_after(acme: Caller) -> None:
    client = operator(None)
    answer = client.post(
        f"/admin/tenancy/tenant/{acme.tenant.pk}/change/",
        {
            "name": "Acme Ltd", "is_active": "on", "late_policy": "review",
            "lateness_window_hours": "24", "adjustment_cap": "", "epsilon": "0.005",
        },
    )  # fmt: skip
    assert answer.status_code == 302
    row = AuditEntry.objects.get(action="tenant.changed")
    assert (row.before["late_policy"], row.after["late_policy"]) == ("auto", "review")
    assert row.after["name"] == "Acme Ltd"


def test_a_session_ends_by_silence_and_by_age(acme: Caller, settings: Settings) -> None:
    client = operator(None)
    assert client.get("/admin/").status_code == 200
    session = client.session
    session["_seen_at"] -= settings.SESSION_IDLE_SECONDS + 1
    session.save()
    assert client.get("/admin/").status_code == 302
    client = operator(None, name="otto")
    client.get("/admin/")
    session = client.session
    session["_began_at"] -= settings.SESSION_COOKIE_AGE + 1
    session.save()
    assert client.get("/admin/").status_code == 302


@pytest.mark.django_db
def test_htmx_meets_the_log_in_page_as_a_whole_page() -> None:
    answer = Client().get("/admin/tenancy/apikey/", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer["HX-Redirect"].startswith("/admin/login/")


@pytest.mark.django_db
def test_pages_carry_the_strict_policy() -> None:
    answer = Client().get("/admin/login/")
    policy = answer["Content-Security-Policy"]
    assert "unsafe" not in policy
    for part in ("object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"):
        assert part in policy
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_roles_rank(acme: Caller, globex: Caller) -> None:
    user = get_user_model().objects.create_user("m", password=PASSWORD)
    Membership.objects.create(tenant=acme.tenant, user=user, role="maintainer")
    assert roles.may(user, "viewer", tenant_id=acme.tenant.pk)
    assert roles.may(user, "maintainer")
    assert not roles.may(user, "owner")
    assert not roles.may(user, "viewer", tenant_id=globex.tenant.pk)
    user.is_active = False
    assert not roles.may(user, "viewer")
