"""A widget token opens one customer's page in named origins, and nothing else."""

import json
from datetime import timedelta

import pytest
from django.core import signing

from counters.services.fold import fold_everything
from stripemeter.lib import clock
from stripemeter.lib.instants import rfc3339
from stripemeter.tenancy import services as tenancy
from tests.builders.tenancy import make_caller
from widget import tokens
from widget.models import WidgetSession

pytestmark = pytest.mark.django_db

ORIGIN = "https://app.customer.example"


@pytest.fixture
def acme(client):
    globex = make_caller("globex")
    post_events(client, globex, "cus_b1", 77)
    return make_caller("acme")


def call(client, method, path, caller, body=None):
    token = caller if isinstance(caller, str) else caller.plaintext
    options = {"headers": {"Authorization": f"Bearer {token}"}}
    if body is not None:
        options |= {"data": json.dumps(body), "content_type": "application/json"}
    return getattr(client, method)(path, **options)


def post_events(client, caller, customer, *quantities, metric="api_calls"):
    now = clock.now()
    events = [
        {
            "tenantId": caller.tenant.key,
            "metric": metric,
            "customerRef": customer,
            "quantity": quantity,
            "ts": rfc3339(now - timedelta(seconds=place)),
        }
        for place, quantity in enumerate(quantities)
    ]
    answer = call(client, "post", "/v1/events/ingest", caller, {"events": events})
    assert answer.json()["accepted"] == len(quantities)


def mint(client, caller, **fields):
    body = {"customerRef": "cus_t1", "origins": [ORIGIN], **fields}
    return call(client, "post", "/v1/widget/sessions", caller, body)


def token_of(client, caller, **fields):
    return mint(client, caller, **fields).json()["token"]


def test_it_shows_the_same_numbers_as_the_api(client, acme):
    post_events(client, acme, "cus_t1", 3, 4)
    fold_everything(now=clock.now())
    post_events(client, acme, "cus_t1", 0, 5)
    path = "/v1/usage/current?tenantId=acme&customerRef=cus_t1"
    wanted = call(client, "get", path, acme).json()["metrics"][0]["current"]
    shown = call(client, "get", "/widget/usage", token_of(client, acme)).json()
    assert [metric["current"] for metric in shown["metrics"]] == [wanted] == [12]
    page = client.get("/widget/embed", {"token": token_of(client, acme)}).content.decode()
    assert "<strong>12</strong>" in page


def test_the_customer_comes_from_the_token_whatever_the_query_says(client, acme):
    post_events(client, acme, "cus_t2", 99, metric="canary")
    token = token_of(client, acme)
    for query in ("customerRef=cus_t2", "tenantId=globex", "customerRef=cus_t1&customerRef=cus_t2"):
        refused = call(client, "get", f"/widget/usage?{query}", token)
        assert (refused.status_code, refused.json()["code"]) == (403, "customer_mismatch")
        assert b"canary" not in refused.content
    shown = call(client, "get", "/widget/usage?customerRef=cus_t1&tenantId=acme", token)
    assert shown.json()["customerRef"] == "cus_t1"


def test_an_expired_revoked_or_forged_token_opens_nothing(client, acme, monkeypatch):
    token = token_of(client, acme)
    session = WidgetSession.objects.get()
    forged = signing.Signer(key="other", salt="x").sign_object({"aud": "widget"})
    for bad in ("", token[:-1] + ("A" if token[-1] != "A" else "B"), forged, acme.plaintext):
        assert call(client, "get", "/widget/usage", bad).status_code == 401, bad
    later = clock.now() + timedelta(minutes=11)
    with pytest.raises(tokens.InvalidToken):
        tokens.read(token, now=later)
    with pytest.raises(tokens.InvalidToken):
        tokens.read(token, now=clock.now() - timedelta(minutes=1))
    path = f"/v1/widget/sessions/{session.pk}"
    assert call(client, "delete", path, acme).status_code == 200
    assert call(client, "get", "/widget/usage", token).status_code == 401


def test_a_token_dies_with_the_key_that_minted_it(client, acme):
    token = token_of(client, acme)
    assert call(client, "get", "/widget/usage", token).status_code == 200
    tenancy.revoke_api_key(
        tenant_id=acme.tenant.pk, lookup=acme.key.lookup, actor="test", now=clock.now()
    )
    assert call(client, "get", "/widget/usage", token).status_code == 401


def test_a_token_is_no_api_key(client, acme):
    token = token_of(client, acme)
    assert call(client, "get", "/v1/events?tenantId=acme", token).status_code == 401


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "https://*.example.com",
        "http://app.example.com",
        "https://a.example; script-src *",
        "https://a.example/path",
        "https://user@a.example",
        "null",
        "",
    ],
)
def test_only_exact_origins_are_taken(client, acme, origin):
    assert mint(client, acme, origins=[origin]).status_code == 400
    assert not WidgetSession.objects.exists()


def test_a_lifetime_over_fifteen_minutes_is_refused(client, acme):
    assert mint(client, acme, ttlSeconds=901).status_code == 400
    assert mint(client, acme, ttlSeconds=900).status_code == 201


def test_minting_needs_its_own_scope(client, acme):
    reader = make_caller("acme", scopes=["project:read", "project:write"])
    assert mint(client, reader).status_code == 403


def test_the_frame_names_exactly_the_origins_of_the_token(client, acme):
    token = token_of(client, acme, origins=[ORIGIN, "https://b.example:8443"])
    page = client.get("/widget/embed", {"token": token})
    policy = page["Content-Security-Policy"]
    assert policy.endswith(f"frame-ancestors {ORIGIN} https://b.example:8443")
    assert "unsafe" not in policy
    assert "X-Frame-Options" not in page
    assert page["Referrer-Policy"] == "no-referrer"
    assert page["Cache-Control"] == "no-store"
    assert not page.cookies
    refused = client.get("/widget/embed", {"token": "x"})
    assert refused.status_code == 401
    assert refused["Content-Security-Policy"].endswith("frame-ancestors 'none'")


def test_no_answer_allows_another_origin_to_read_it(client, acme):
    token = token_of(client, acme)
    for origin in (ORIGIN, "https://evil.example", "null"):
        headers = {"Authorization": f"Bearer {token}", "Origin": origin}
        answer = client.get("/widget/usage", headers=headers)
        assert "Access-Control-Allow-Origin" not in answer


def test_a_session_may_be_limited_to_some_metrics(client, acme):
    post_events(client, acme, "cus_t1", 1)
    post_events(client, acme, "cus_t1", 2, metric="hidden")
    token = token_of(client, acme, metrics=["api_calls"])
    shown = call(client, "get", "/widget/usage", token).json()
    assert [metric["name"] for metric in shown["metrics"]] == ["api_calls"]
    assert call(client, "get", "/widget/usage/events.csv?metric=hidden", token).status_code == 401


def test_the_customer_downloads_own_events_and_no_cell_is_a_formula(client, acme):
    body = {
        "tenantId": "acme",
        "metric": "api_calls",
        "customerRef": "cus_t1",
        "quantity": 0.5,
        "ts": rfc3339(clock.now()),
        "idempotencyKey": "=1+1",
    }
    call(client, "post", "/v1/events/ingest", acme, {"events": [body]})
    path = "/widget/usage/events.csv?metric=api_calls"
    lines = call(client, "get", path, token_of(client, acme)).content.decode().splitlines()
    assert lines[0] == '"key","metric","quantity","time","resource","source"'
    assert lines[1].startswith('"\'=1+1","api_calls","0.5"')
    assert len(lines) == 2


@pytest.mark.parametrize("locale", ["en", "de", "es", "fr", "ja"])
def test_the_page_speaks_the_language_asked_for(client, acme, locale):
    query = {"token": token_of(client, acme), "locale": locale}
    page = client.get("/widget/embed", query).content.decode()
    titles = {"en": "Usage", "de": "Nutzung", "es": "Uso", "fr": "Consommation", "ja": "利用状況"}
    assert f"<title>{titles[locale]}</title>" in page
    assert f'lang="{locale}"' in page


def test_a_theme_cannot_carry_markup(client, acme):
    query = {"token": token_of(client, acme), "theme": '"><script>alert(1)</script>'}
    page = client.get("/widget/embed", query).content.decode()
    assert "alert(1)" not in page
    assert 'data-theme="auto"' in page
