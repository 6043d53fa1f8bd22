"""A tenant with nothing yet: every list says that it is empty, and what to do next."""

import re

import pytest
from django.test import Client

from tests.browser.pages import NOT_AN_OPERATORS, Route, operator_routes
from tests.builders.tenancy import make_tenant
from tests.ops.conftest import Office

#: Pages without a list, or with one that is never empty, and why.
NO_LIST = {
    "home": "panels",
    "settings": "a form",
    "system": "the service itself",
    "records": "the admin's lists",
    "members": "who looks is in it",
    "audit": "the sign-in or the membership is in it",
    "periods": "a form and the calendar in force",
    "replay": "a form",
    "backfill": "a form",
    "closes": "the months themselves",
    "alert-rule-new": "a form",
    "webhook-new": "a form",
    "mapping-new": "a form",
    "api-key-new": "a form",
}
LISTS = [
    route
    for route in operator_routes()
    if not route.parameters and not route.is_panel and route.name not in NO_LIST | NOT_AN_OPERATORS
]
EMPTY = re.compile(r'<p class="empty"><strong>([^<]+)</strong>(.*?)</p>', re.DOTALL)


@pytest.fixture
def newcomer(db: None) -> Client:
    """The owner of a tenant that has nothing."""
    office = Office(make_tenant("acme"), make_tenant("globex"))
    return office.sign_in("owner")


def test_every_list_of_an_empty_tenant_says_what_to_do_next(newcomer: Client) -> None:
    silent, seen = [], 0
    for route in LISTS:
        answer = newcomer.get(route.filled("x"))
        if answer.status_code != 200:  # an act, or a page that is about something
            continue
        seen += 1
        found = EMPTY.search(answer.content.decode())
        if found is None or len(re.sub(r"<[^>]+>|\s+", " ", found[2]).strip()) < 15:
            silent.append(route.name)
    assert seen > 15
    assert silent == []


def test_exceptions_name_pages_that_exist() -> None:
    names: set[str] = {route.name for route in operator_routes() if isinstance(route, Route)}
    assert set(NO_LIST) <= names
