"""Every /v1 route x method, with a foreign tenant in every place it can be put.

Generated from the URL resolver: a new route without an entry fails here. Everything that
tenant B owns carries a canary; no byte of it may come back to tenant A, and nothing of B
may change.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from stripemeter.lib import redisclient
from stripemeter.lib.ratelimit import limiter
from stripemeter.tenancy.api_base import TenantView
from stripemeter.tenancy.recognition import forget_cached_keys
from tests.builders.tenancy import Caller, make_caller

CANARY = "canary-of-globex-51c2"
IDS_MAX = 8
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
#: Routes that are not a tenant's, and why.
NOT_A_TENANTS = {
    "v1/openapi.json": "describes the API; the same for everybody",
    "v1/reconciliation/exports/download": "a signed link is the permission",
}
#: Tables in which a foreign request may change nothing of B.
IGNORED = {"tenancy_apikey"}  # last_used_at moves


def _patterns(found: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for item in found:
        if isinstance(item, URLResolver):
            yield from _patterns(item.url_patterns, prefix + str(item.pattern))
        elif isinstance(item, URLPattern):
            yield prefix + str(item.pattern), item.callback


ROUTES = [(route, view) for route, view in _patterns(get_resolver().url_patterns)
          if route.startswith("v1/")]  # fmt: skip
TENANT_ROUTES = [(route, view) for route, view in ROUTES if route not in NOT_A_TENANTS]
CELLS = [
    pytest.param(route, method, id=f"{method} {route}")
    for route, view in TENANT_ROUTES
    for method in METHODS
    if hasattr(getattr(view, "cls", None), method.lower())
]


@dataclass(slots=True)
class Globex:
    """What tenant B owns, by the name of the URL parameter that could name it."""

    caller: Caller
    objects: list[str] = field(default_factory=list)


def test_every_route_below_v1_belongs_to_a_tenant_or_has_a_reason() -> None:
    wrong = [
        route
        for route, view in TENANT_ROUTES
        if not issubclass(getattr(view, "cls", object), TenantView)
    ]
    assert wrong == []


def test_every_view_narrows_its_connection() -> None:
    assert all(view.narrows_to_tenant for _, view in TENANT_ROUTES)


@pytest.fixture(scope="module")
def world(django_db_setup: None, django_db_blocker: Any) -> Iterator[tuple[Caller, Globex]]:
    """Both tenants, made once; each test is rolled back to this."""
    forget_cached_keys()
    with django_db_blocker.unblock():
        whole = transaction.atomic()
        whole.__enter__()
        try:
            yield make_caller("acme"), make_globex()
        finally:
            transaction.set_rollback(True)
            whole.__exit__(None, None, None)
            forget_cached_keys()


@pytest.fixture(autouse=True)
def _back_to_the_start(world: tuple[Caller, Globex]) -> Iterator[None]:
    redisclient.client().flushdb()
    limiter.forget()
    start = transaction.savepoint()
    yield
    transaction.savepoint_rollback(start)


@pytest.fixture
def acme(world: tuple[Caller, Globex]) -> Caller:
    return world[0]


@pytest.fixture
def globex(world: tuple[Caller, Globex]) -> Globex:
    return world[1]


def make_globex() -> Globex:
    """Tenant B with something of everything."""
    caller = make_caller("globex")
    caller.tenant.name = CANARY
    caller.tenant.save()
    caller.key.name = CANARY
    caller.key.save()
    owned = Globex(caller, [caller.key.lookup, str(caller.key.pk)])
    client = Client()
    for path, body in BELONGINGS:
        body = {**body, "tenantId": "globex"}
        if path.endswith("ingest"):
            body = {"events": [{**body["events"][0], "tenantId": "globex"}]}
        answer = client.post(path, body, "application/json", headers=caller.headers)
        if answer.status_code < 300:
            owned.objects += [
                str(value)
                for name, value in answer.json().items()
                if name.lower().endswith("id") and name not in {"requestId", "tenantId"}
            ]
    return owned


#: How B comes by objects of its own, through the API.
BELONGINGS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/events/ingest", {"events": [{
        "metric": "api_calls", "customerRef": CANARY, "quantity": 7,
        "ts": "2026-01-02T00:00:00Z", "idempotencyKey": CANARY}]}),
    ("/v1/mappings", {"metric": "api_calls", "aggregation": "sum", "stripeAccount": "acct_B1",
                      "priceId": "price_canaryB", "stripeMeterEventName": CANARY}),
    ("/v1/adjustments", {"metric": "api_calls", "customerRef": CANARY, "delta": 1,
                         "periodStart": "2026-01-01", "reason": "correction", "note": CANARY}),
    ("/v1/events/backfill", {"metric": "api_calls", "periodStart": "2026-01-01",
                             "reason": CANARY, "events": [{
                                 "tenantId": "globex", "metric": "api_calls",
                                 "customerRef": CANARY, "quantity": 1,
                                 "ts": "2026-01-03T00:00:00Z"}]}),
    ("/v1/alerts", {"type": "threshold", "threshold": 1, "action": "webhook",
                    "customerRef": CANARY, "metric": "api_calls"}),
    ("/v1/webhook-endpoints", {"url": f"https://{CANARY}.example/", "eventTypes": ["*"]}),
    ("/v1/simulations/scenarios", {"name": CANARY, "model": {
        "model": "flat", "currency": "USD", "unitPrice": 1}, "inputs": {
        "customerId": CANARY, "periodStart": "2026-01-01", "periodEnd": "2026-01-31",
        "usageItems": []}}),
]  # fmt: skip


def url(route: str, value: str) -> str:
    """``route`` with every parameter filled by ``value``."""
    return "/" + re.sub(r"<(?:\w+:)?(\w+)>", value, route)


def kind(route: str) -> str:
    """What kind of value the route's parameters take."""
    found = re.search(r"<(\w+):\w+>", route)
    return found[1] if found else ""


def values_for(route: str, globex: Globex) -> list[str]:
    """Ids of B that fit the route's parameters; one dummy where there are none."""
    if "<" not in route:
        return [""]
    wanted = kind(route)
    fits = {
        "int": str.isdigit,
        "uuid": lambda text: re.fullmatch(r"[0-9a-f-]{36}", text) is not None,
    }.get(wanted, lambda text: True)
    fitting = [value for value in globex.objects if fits(value)]
    return fitting[:IDS_MAX] or ["2026-01"]


def ask(caller: Caller, method: str, path: str, body: Any = None, **headers: str) -> Any:
    """One request of ``caller``; a defect shows as a 500, not as an exception."""
    client = Client(raise_request_exception=False)
    payload = {} if method in {"GET", "DELETE"} and body is None else {"data": body or {}}
    return client.generic(
        method,
        path,
        *([json.dumps(payload["data"])] if payload else []),
        content_type="application/json",
        headers={**caller.headers, **headers},
    )


def belongings_of(tenant_id: int) -> dict[str, Any]:
    """Checksum of every row that tenant has."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name FROM information_schema.columns"
            " WHERE column_name = 'tenant_id' AND table_schema = 'public'"
        )
        tables = sorted({name for (name,) in cursor.fetchall()} - IGNORED)
        parts = [
            f"SELECT '{name}', count(*), coalesce(sum(hashtextextended(t::text, 0)), 0)"
            f" FROM {name} t WHERE tenant_id = {tenant_id}"
            for name in tables
        ]
        cursor.execute(" UNION ALL ".join(parts))
        return {name: (rows, total) for name, rows, total in cursor.fetchall()}


def assert_nothing_leaks(answer: Any, place: str) -> None:
    text = answer.content.decode("utf-8", "replace") + repr(answer.headers)
    assert CANARY not in text, place
    assert answer.status_code < 500, f"{place}: {answer.status_code} {text[:300]}"


def placements(acme: Caller, globex: Globex, method: str, path: str) -> dict[str, Any]:
    """The answers to every way of naming B in a request of A; and of B's key naming A."""
    foreign = {"tenantId": "globex"}
    own = f"{path}?tenantId=acme"
    return {
        "foreign tenant in the query": ask(acme, method, f"{path}?tenantId=globex"),
        "both tenants in the query": ask(acme, method, f"{own}&tenantId=globex"),
        "foreign tenant in the body": ask(acme, method, path, foreign),
        "own in the query, foreign in the body": ask(acme, method, own, foreign),
        "foreign tenant in a header": ask(acme, method, own, **{"X-Tenant-ID": "globex"}),
    }


REFUSED = {"foreign tenant in the query", "both tenants in the query"}


@pytest.mark.parametrize(("route", "method"), CELLS)
def test_no_placement_of_a_foreign_tenant_leaks(
    acme: Caller, globex: Globex, route: str, method: str
) -> None:
    before = belongings_of(globex.caller.tenant.pk)
    for number, value in enumerate(values_for(route, globex)):
        path = url(route, value)
        answers = {
            "foreign id in the path": ask(acme, method, path),
            "foreign id in the path, own tenant": ask(acme, method, f"{path}?tenantId=acme"),
        }
        if "<" in route and value != "2026-01":
            for place, answer in answers.items():
                assert answer.status_code in {400, 403, 404}, f"{method} {path}: {place}"
        if number == 0:
            answers |= placements(acme, globex, method, path)
            theirs = ask(globex.caller, method, f"{path}?tenantId=acme")
            assert theirs.status_code in {400, 403, 404}, f"{method} {path}"
        for place, answer in answers.items():
            assert_nothing_leaks(answer, f"{method} {path}: {place}")
            if place in REFUSED:
                assert answer.status_code in {400, 403, 404}, f"{method} {path}: {place}"
    assert belongings_of(globex.caller.tenant.pk) == before


@pytest.mark.parametrize(("route", "method"), CELLS)
def test_no_route_answers_without_a_key(route: str, method: str) -> None:
    path = url(route, "2026-01")
    answer = Client(raise_request_exception=False).generic(method, path)
    assert answer.status_code in {401, 404}, path
    assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(("route", "method"), CELLS)
def test_a_key_without_the_scope_opens_nothing(acme: Caller, route: str, method: str) -> None:
    elsewhere = "alerts:read" if "widget" in route else "widget:mint"
    nothing = make_caller(acme.tenant, scopes=[elsewhere])
    answer = ask(nothing, method, url(route, "2026-01"))
    assert answer.status_code in {403, 404}, answer.content[:200]
