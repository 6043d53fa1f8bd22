"""Events are facts: neither the application nor the owner of the table changes one."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import errors

from ledger.models import Event
from tests.builders.ledger import make_event, store
from tests.builders.tenancy import make_caller

CHANGES = [
    "UPDATE ledger_event SET quantity = 5",
    "DELETE FROM ledger_event",
    "TRUNCATE ledger_event",
]


@pytest.mark.parametrize("statement", CHANGES)
def test_the_application_may_not_change_events(
    second_connection: Callable[..., "psycopg.Connection[Any]"], statement: str
) -> None:
    store(make_caller("acme").tenant, make_event())
    with pytest.raises(errors.InsufficientPrivilege):
        second_connection().execute(statement)
    assert Event.objects.count() == 1


@pytest.mark.parametrize("statement", CHANGES)
def test_the_owner_is_stopped_by_a_trigger(
    second_connection: Callable[..., "psycopg.Connection[Any]"], statement: str
) -> None:
    store(make_caller("acme").tenant, make_event())
    with pytest.raises(errors.RestrictViolation):
        second_connection(owner=True).execute(statement)
    assert Event.objects.count() == 1


@pytest.mark.parametrize(
    "quantity", ["'NaN'", "'Infinity'", "-1", "1e26"], ids=["nan", "infinity", "negative", "huge"]
)
def test_no_poison_enters_round_the_service(
    second_connection: Callable[..., "psycopg.Connection[Any]"], quantity: str
) -> None:
    tenant = make_caller("acme").tenant
    with pytest.raises(errors.CheckViolation):
        second_connection().execute(
            "INSERT INTO ledger_event (tenant_id, batch_id, ts, recorded_at, key, fingerprint,"
            " metric_id, customer_ref, quantity, source) VALUES (%s, 1, now(), now(),"
            f" gen_random_uuid(), gen_random_uuid(), 1, 'c', {quantity}::numeric, 'http')",
            [tenant.pk],
        )


def test_a_timestamp_python_cannot_read_is_refused_by_the_database(
    second_connection: Callable[..., "psycopg.Connection[Any]"],
) -> None:
    tenant = make_caller("acme").tenant
    with pytest.raises(errors.CheckViolation):
        second_connection().execute(
            "INSERT INTO ledger_event (tenant_id, batch_id, ts, recorded_at, key, fingerprint,"
            " metric_id, customer_ref, quantity, source) VALUES (%s, 1, '10000-01-01', now(),"
            " gen_random_uuid(), gen_random_uuid(), 1, 'c', 1, 'http')",
            [tenant.pk],
        )
