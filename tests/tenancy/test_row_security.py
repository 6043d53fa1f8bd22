"""The second wall: the application's role sees nothing of another tenant, asked or not."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.apps import apps
from django.db import connection
from django.test import Client

from stripemeter.lib import rowsecurity
from stripemeter.lib.livesql import raw_cursor
from stripemeter.tenancy.models import ApiKey, AuditEntry, Tenant
from tests.builders.tenancy import Caller, make_caller

OURS = {"shell", "tenancy", "ledger", "counters", "billing", "reconciliation", "widget"}
#: Tables of ours without a tenant, and why.
WITHOUT_TENANT = {
    "shell_heartbeat": "says which processes live",
    "tenancy_tenant": "is the tenant; found by key before any is known",
    "ledger_backfillchunk": "part of a backfill, found through it",
    "reconciliation_repairstep": "part of a repair plan, found through it",
    "counters_verification": "about all counters of the installation",
    "billing_stripeaccount": "a Stripe account of the installation; its owner is a column",
    "billing_priceversion": "what Stripe says of a price, per account",
    "billing_webhookinbox": "arrives before anybody knows whose it is",
    "reconciliation_readbudget": "reads of one Stripe account in a month",
}


def tables() -> dict[str, bool]:
    """Our tables, and whether they have a tenant_id."""
    return {
        model._meta.db_table: any(f.column == "tenant_id" for f in model._meta.concrete_fields)
        for model in apps.get_models()
        if model._meta.app_label in OURS and model._meta.managed
    }


@pytest.mark.django_db
def test_every_table_of_a_tenant_stands_behind_the_wall() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_policy p ON p.polrelid = c.oid"
            " WHERE c.relrowsecurity AND p.polname = %s",
            [rowsecurity.POLICY],
        )
        behind = {name for (name,) in cursor.fetchall()}
    with_tenant = {name for name, has in tables().items() if has}
    assert with_tenant - behind == set()


def test_a_table_without_a_tenant_has_a_reason() -> None:
    without = {name for name, has in tables().items() if not has}
    assert without - set(WITHOUT_TENANT) == set()


@pytest.fixture
def two(transactional_db: None) -> tuple[Caller, Caller]:
    return make_caller("acme"), make_caller("globex")


def test_the_application_role_sees_one_tenant_or_nothing(
    two: tuple[Caller, Caller], second_connection: Callable[..., "psycopg.Connection[Any]"]
) -> None:
    acme, globex = two
    raw = second_connection()
    foreign = f"WHERE tenant_id = {globex.tenant.pk}"
    for table in sorted(name for name, has in tables().items() if has):
        raw.execute(f"SELECT set_config('stripemeter.tenant', '{acme.tenant.pk}', false)")
        assert raw.execute(f"SELECT count(*) FROM {table} {foreign}").fetchone() == (0,), table
        for nobody in ("", "0"):
            raw.execute(f"SELECT set_config('stripemeter.tenant', '{nobody}', false)")
            assert raw.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    raw.execute(f"SELECT set_config('stripemeter.tenant', '{acme.tenant.pk}', false)")
    assert raw.execute("SELECT count(*) FROM tenancy_apikey").fetchone() == (1,)


def test_the_application_role_cannot_write_for_another_tenant(
    two: tuple[Caller, Caller], second_connection: Callable[..., "psycopg.Connection[Any]"]
) -> None:
    acme, globex = two
    raw = second_connection()
    raw.execute(f"SELECT set_config('stripemeter.tenant', '{acme.tenant.pk}', false)")
    changed = raw.execute(f"UPDATE tenancy_apikey SET name = 'x' WHERE id = {globex.key.pk}")
    assert changed.rowcount == 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        raw.execute(
            "INSERT INTO tenancy_membership (tenant_id, user_id, role)"
            f" VALUES ({globex.tenant.pk}, 1, 'owner')"
        )


def test_a_query_that_forgets_the_tenant_finds_only_the_callers_rows(
    two: tuple[Caller, Caller], monkeypatch: pytest.MonkeyPatch
) -> None:
    acme, globex = two
    seen: list[int] = []

    def forgetful(**_: Any) -> list[ApiKey]:
        seen.extend(ApiKey.objects.values_list("pk", flat=True))
        return []

    from stripemeter.tenancy import selectors

    monkeypatch.setattr(selectors, "api_keys", forgetful)
    for caller in (acme, globex):
        answer = Client().get("/v1/admin/api-keys", headers=caller.headers)
        assert answer.status_code == 200
    assert seen == [acme.key.pk, globex.key.pk]
    assert ApiKey.objects.count() == 2  # the test itself sees both again


def test_a_lost_connection_starts_wide_and_is_narrowed_again(two: tuple[Caller, Caller]) -> None:
    acme, _ = two
    rowsecurity.narrow(acme.tenant.pk)
    assert ApiKey.objects.count() == 1
    connection.close()
    assert ApiKey.objects.count() == 2
    rowsecurity.narrow(acme.tenant.pk)
    assert ApiKey.objects.count() == 1
    rowsecurity.widen()
    assert ApiKey.objects.count() == 2


def test_narrowing_again_costs_no_round_trip(
    two: tuple[Caller, Caller], django_assert_num_queries: Any
) -> None:
    acme, globex = two
    rowsecurity.narrow(acme.tenant.pk)
    with django_assert_num_queries(0):
        rowsecurity.narrow(acme.tenant.pk)
    with django_assert_num_queries(2):
        rowsecurity.narrow(globex.tenant.pk)
        rowsecurity.widen()


def test_the_trail_without_a_tenant_is_seen_only_by_operators(two: tuple[Caller, Caller]) -> None:
    acme, _ = two
    assert Tenant.objects.count() == 2
    rowsecurity.narrow(acme.tenant.pk)
    assert set(AuditEntry.objects.values_list("tenant_id", flat=True)) == {acme.tenant.pk}
    rowsecurity.widen()


def test_a_connection_in_place_of_a_lost_one_sees_the_same_tenant_only(
    transactional_db: None,
) -> None:
    rowsecurity.narrow(5)
    with raw_cursor() as cursor:
        lost = cursor.execute("SELECT pg_backend_pid()").fetchone()[0]
    # As an operator, a restart or an idle limit would.
    with psycopg.connect(**connection.get_connection_params()) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [lost])
    with raw_cursor() as cursor:
        query = "SELECT pg_backend_pid() <> %s, current_setting('stripemeter.tenant')"
        assert cursor.execute(query, [lost]).fetchone() == (True, "5")
    rowsecurity.widen()
