"""Every operator page and act, by every role: generated from the URL resolver."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction
from django.test import Client

from stripemeter.lib import redisclient
from stripemeter.lib.ratelimit import limiter
from stripemeter.tenancy.operators import RANK
from tests.browser.pages import NOT_AN_OPERATORS, Route, operator_routes
from tests.builders.tenancy import make_tenant
from tests.ops.conftest import Office, use

ROUTES = [route for route in operator_routes() if route.name not in NOT_AN_OPERATORS]


@pytest.fixture(scope="module")
def people(django_db_setup: None, django_db_blocker: Any) -> Iterator[dict[str, Client]]:
    """One browser per role, made once; each test is rolled back to this."""
    redisclient.client().flushdb()
    limiter.forget()
    with django_db_blocker.unblock():
        whole = transaction.atomic()
        whole.__enter__()
        try:
            office = Office(make_tenant("acme"), make_tenant("globex"))
            use(office.acme, "acme-customer")
            yield {role: office.sign_in(role) for role in RANK}
        finally:
            transaction.set_rollback(True)
            whole.__exit__(None, None, None)


@pytest.fixture(autouse=True)
def _back_to_the_start(people: dict[str, Client]) -> Iterator[None]:
    start = transaction.savepoint()
    yield
    transaction.savepoint_rollback(start)


def test_every_page_names_the_role_it_takes() -> None:
    assert [route.name for route in ROUTES if route.role not in RANK] == []


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_a_lower_role_gets_no_further_than_being_told(
    people: dict[str, Client], route: Route
) -> None:
    url = route.filled("acme-nothing")
    for method in ("get", "post"):
        stranger = getattr(Client(), method)(url)
        assert stranger.status_code in {302, 405}
        for role, client in people.items():
            answer = getattr(client, method)(url)
            assert answer.status_code < 500, f"{method} {url} as {role}"
            told = b"This page needs the role" in answer.content
            if answer.status_code != 405:
                assert told == (RANK[role] < RANK[route.role]), f"{method} {url} as {role}"
                assert answer.status_code == 403 or not told
