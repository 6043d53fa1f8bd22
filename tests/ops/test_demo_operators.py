"""The demo has two people to sign in as, with what each may do."""

import pytest
from django.test import Client

from stripemeter.demo.catalog import TENANTS
from stripemeter.demo.operators import make_operators
from stripemeter.lib import clock
from stripemeter.tenancy.models import Membership
from stripemeter.tenancy.services import create_tenant

PASSWORD = "for-the-demo-" + "d" * 12

pytestmark = pytest.mark.django_db


def test_both_operators_sign_in_and_a_second_start_adds_nobody() -> None:
    for tenant in TENANTS:
        create_tenant(key=tenant.key, name=tenant.name, actor="test", now=clock.now())
    make_operators("an-older-password", now=clock.now())
    make_operators(PASSWORD, now=clock.now())
    roles = Membership.objects.values_list("user__username", "role").distinct()
    assert set(roles) == {
        ("owner@demo.example", "owner"),
        ("maintainer@demo.example", "maintainer"),
    }
    assert Membership.objects.count() == 2 * len(TENANTS)
    for name in ("owner@demo.example", "maintainer@demo.example"):
        client = Client()
        answer = client.post(
            "/admin/login/", {"username": name, "password": PASSWORD, "next": "/admin/"}
        )
        assert answer.status_code == 302, name
        assert client.get("/admin/").status_code == 200
