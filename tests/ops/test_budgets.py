"""What pages may cost: queries per page and panel, on a tenant made by ``demo_scale``."""

from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.models import Sum
from django.test import Client
from django.test.utils import CaptureQueriesContext

from billing.models import Push
from counters.models import Counter
from counters.services.verify import verify_counters
from ledger.models import Event
from stripemeter.lib import clock
from stripemeter.tenancy.models import Membership, Tenant
from tests.browser.pages import NOT_AN_OPERATORS, Route, operator_routes, page_url

CUSTOMERS, EVENTS = 30, 4_500
#: Person, membership and tenant are three of them.
QUERIES_MAX = 19
#: Pages that are allowed more, and why.
MORE = {
    "closes": (40, "a board for each of the last months"),
    "money-panel": (30, "a price for each mapping"),
    "system": (30, "asks every part of the service how it is"),
}
ROUTES = [route for route in operator_routes() if route.name not in NOT_AN_OPERATORS]


@pytest.fixture(scope="module")
def scaled(django_db_setup: None, django_db_blocker: Any) -> Iterator[tuple[Tenant, Client]]:
    """A scaled tenant and its owner's browser, made once."""
    with django_db_blocker.unblock():
        whole = transaction.atomic()
        whole.__enter__()
        try:
            call_command("demo_scale", events=EVENTS, customers=CUSTOMERS, stdout=StringIO())
            tenant = Tenant.objects.get(key="scale")
            user = get_user_model().objects.create_user("budget", password="x", is_staff=True)
            Membership.objects.create(tenant=tenant, user=user, role="owner")
            client = Client()
            client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
            yield tenant, client
        finally:
            transaction.set_rollback(True)
            whole.__exit__(None, None, None)


@pytest.fixture(autouse=True)
def _unblocked(scaled: Any, django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock():
        start = transaction.savepoint()
        yield
        transaction.savepoint_rollback(start)


def test_the_scaled_tenant_adds_up(scaled: tuple[Tenant, Client]) -> None:
    tenant, _ = scaled
    assert Event.objects.filter(tenant_id=tenant.pk).count() == EVENTS
    events = Counter.objects.filter(tenant_id=tenant.pk).aggregate(number=Sum("event_count"))
    assert events["number"] == EVENTS
    assert verify_counters(now=clock.now(), tenant_key="scale").by_tenant == {}
    states = set(Push.objects.filter(tenant_id=tenant.pk).values_list("state", flat=True))
    assert states == {"acknowledged"}
    with pytest.raises(CommandError, match="exists already"):
        call_command("demo_scale", stdout=StringIO())


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_a_page_costs_no_more_queries_than_it_may(
    scaled: tuple[Tenant, Client], route: Route
) -> None:
    tenant, client = scaled
    url = page_url(route, tenant)
    if url is None:
        pytest.skip("the scaled tenant has nothing to show here")
    with CaptureQueriesContext(connection) as queries:
        answer = client.get(url)
    if answer.status_code == 405:
        pytest.skip("an act, not a page")
    assert answer.status_code in {200, 302}
    most, _ = MORE.get(route.name, (QUERIES_MAX, ""))
    spent = [query["sql"][:160] for query in queries if not _is_of_the_session(query["sql"])]
    assert len(spent) <= most, "\n".join(spent)


def _is_of_the_session(sql: str) -> bool:
    """Once a minute a session writes when it was last seen: that is no cost of a page."""
    return "django_session" in sql or "SAVEPOINT" in sql
