"""The test harness itself: isolation, roles, and emptying between tests."""

import os
import socket
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connection

from billing.stripe_sandbox.process import SandboxProcess
from tests.support.processes import HttpProcess


@pytest.mark.django_db
def test_tests_run_as_the_application_role() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user, current_database()")
        role, database = cursor.fetchone()
    assert role == "stripemeter_app"
    assert database == settings.DATABASES["default"]["NAME"]


@pytest.mark.django_db
def test_the_application_role_cannot_create_tables() -> None:
    with pytest.raises(Exception, match="permission denied"), connection.cursor() as cursor:
        cursor.execute("CREATE TABLE intruder ()")


@pytest.mark.parametrize("turn", [1, 2])
def test_a_committed_row_is_gone_in_the_next_test(
    turn: int, second_connection: Callable[..., "psycopg.Connection[Any]"]
) -> None:
    from stripemeter.tenancy.models import Tenant

    assert not Tenant.objects.filter(key="left-over").exists()
    Tenant.objects.create(key="left-over", name="Left over")
    other = second_connection()
    row = other.execute("SELECT count(*) FROM tenancy_tenant WHERE key = 'left-over'").fetchone()
    assert row == (1,)


def test_no_address_of_a_real_service_reaches_the_tests() -> None:
    assert os.environ["STRIPE_API_BASE"].startswith("http://127.0.0.1")
    assert settings.STRIPE_API_BASE.startswith("http://127.0.0.1")


def test_a_connection_that_leaves_the_machine_is_refused() -> None:
    with (
        socket.socket() as probe,
        pytest.raises(AssertionError, match="outside this machine"),
    ):
        probe.connect(("192.0.2.1", 80))


def test_the_web_process_serves_the_test_database(web: HttpProcess) -> None:
    web.kill()
    assert not web.running
    web.start()
    assert web.running


def test_each_test_meets_an_empty_stripe(sandbox: SandboxProcess) -> None:
    assert sandbox.url == settings.STRIPE_API_BASE
    assert sandbox.totals() == []
