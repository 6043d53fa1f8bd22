"""Rate limits count exactly, are fair, survive Redis, and refuse before anything is read."""

from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from stripemeter.lib import ratelimit, redisclient
from stripemeter.lib.ratelimit import Limiter, limiter
from stripemeter.tenancy import throttling
from stripemeter.tenancy.models import ApiKey
from tests.builders.tenancy import Caller, make_caller

URL = "/v1/admin/api-keys"


@pytest.fixture(autouse=True)
def _empty_buckets() -> Any:
    redisclient.client.cache_clear()
    redisclient.client().flushdb()
    limiter.forget()
    yield
    redisclient.client.cache_clear()
    limiter.forget()


def take(one: Limiter, limit: int = 100, cost: int = 1, name: str = "b") -> ratelimit.Verdict:
    return one.take(name, limit=limit, window_seconds=60, cost=cost)


@pytest.mark.parametrize("limit", [1, 2, 17, 100, 1_000])
def test_one_process_grants_exactly_the_limit(limit: int) -> None:
    one = Limiter()
    verdicts = [take(one, limit) for _ in range(limit + 5)]
    assert [v.allowed for v in verdicts] == [True] * limit + [False] * 5
    assert verdicts[-1].headers()["Retry-After"] == verdicts[-1].headers()["RateLimit-Reset"]


def test_processes_share_a_bucket_and_none_exceeds_it() -> None:
    processes = [Limiter() for _ in range(4)]
    granted = sum(take(processes[n % 4], 500).allowed for n in range(800))
    assert granted == 500


def test_most_requests_cost_no_round_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    one, trips = Limiter(), []
    ask = one._from_redis
    monkeypatch.setattr(one, "_from_redis", lambda *a: (trips.append(1), ask(*a))[1])
    for _ in range(3_000):
        take(one, 6_000)
    assert len(trips) < 60
    taken = len(trips)
    for _ in range(3_100):
        take(one, 6_000)
    refused = len(trips)
    for _ in range(100):
        assert not take(one, 6_000).allowed
    assert len(trips) == refused  # a refusal is remembered until the window ends
    assert taken < refused


def test_a_dear_request_takes_its_cost() -> None:
    one = Limiter()
    assert [take(one, 100, cost=40).allowed for _ in range(3)] == [True, True, False]
    assert take(one, 100, cost=20).allowed
    assert not take(one, 100).allowed


def test_tenants_do_not_share() -> None:
    one = Limiter()
    assert [take(one, 1, name="acme").allowed for _ in range(2)] == [True, False]
    assert take(one, 1, name="globex").allowed


def test_a_flushed_redis_starts_the_window_again_and_breaks_nothing() -> None:
    one = Limiter()
    take(one, 10)
    redisclient.client().flushdb()
    granted = sum(take(one, 10).allowed for _ in range(30))
    assert 9 <= granted <= 20


def test_without_redis_the_process_limits_on_its_own(settings: Settings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    redisclient.client.cache_clear()
    one = Limiter()
    assert [take(one, 5).allowed for _ in range(7)] == [True] * 5 + [False] * 2


def test_a_refused_request_is_never_looked_at(
    acme: Caller, globex: Caller, settings: Settings
) -> None:
    settings.TENANT_RATE_LIMIT = 3
    client = Client()
    answers = [
        client.post(URL, {"name": "n"}, "application/json", headers=acme.headers) for _ in range(4)
    ]
    assert [a.status_code for a in answers] == [201, 201, 201, 429]
    assert answers[0]["RateLimit-Limit"] == "3"
    assert answers[0]["RateLimit-Remaining"] == "2"
    assert int(answers[3]["Retry-After"]) >= 1
    assert answers[3].json()["code"] == "rate_limited"
    assert ApiKey.objects.filter(name="n").count() == 3
    garbage = client.post(URL, b"{", "application/json", headers=acme.headers)
    assert garbage.status_code == 429  # not 400: the body was not read
    assert client.get(URL, headers=acme.headers).status_code == 200  # another route class
    other = client.post(URL, {"name": "n"}, "application/json", headers=globex.headers)
    assert other.status_code == 201


def test_a_key_can_be_limited_below_its_tenant(acme: Caller, settings: Settings) -> None:
    settings.KEY_RATE_LIMIT = 1
    second = make_caller(acme.tenant)
    assert Client().get(URL, headers=acme.headers).status_code == 200
    assert Client().get(URL, headers=acme.headers).status_code == 429
    assert Client().get(URL, headers=second.headers).status_code == 200


def test_bad_keys_are_throttled_by_the_true_peer_address(acme: Caller) -> None:
    client = Client()
    statuses = [
        client.get(
            URL, headers={"Authorization": f"Bearer sm_live_{n}", "X-Forwarded-For": f"9.9.9.{n}"}
        ).status_code
        for n in range(throttling.BAD_KEY_LIMIT + 2)
    ]
    assert statuses == [401] * throttling.BAD_KEY_LIMIT + [429] * 2
    assert client.get(URL, headers=acme.headers).status_code == 200  # a good key goes on
    elsewhere = Client(REMOTE_ADDR="203.0.113.7")
    assert elsewhere.get(URL, headers={"Authorization": "Bearer x"}).status_code == 401


def test_a_tenant_that_floods_leaves_every_request_of_another_alone(
    acme: Caller, globex: Caller, settings: Settings
) -> None:
    settings.TENANT_RATE_LIMIT = 20
    client = Client()
    flooding, fair = [], []
    for place in range(60):
        flooding.append(client.get(URL, headers=acme.headers).status_code)
        if place % 4 == 0:
            fair.append(client.get(URL, headers=globex.headers).status_code)
    assert flooding == [200] * 20 + [429] * 40
    assert fair == [200] * 15


def test_every_answer_says_what_is_left_refusals_included(acme: Caller, settings: Settings) -> None:
    settings.TENANT_RATE_LIMIT = 2
    client = Client()
    answers = [client.get(URL, headers=acme.headers) for _ in range(3)]
    assert [answer["RateLimit-Remaining"] for answer in answers] == ["1", "0", "0"]
    for answer in answers:
        assert (answer["RateLimit-Limit"], int(answer["RateLimit-Reset"]) >= 1) == ("2", True)
    assert "Retry-After" not in answers[0]
    assert answers[2]["Retry-After"] == answers[2]["RateLimit-Reset"]
