"""Health answers say what is true, also when it is bad."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from ledger.models import PendingBatch
from stripemeter import health
from stripemeter.lib import clock, redisclient
from stripemeter.models import Heartbeat, beat_heart
from stripemeter.tasks import beat_worker_heart

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh(settings: Settings) -> Any:
    settings.STRIPE_SECRET_KEY = settings.STRIPE_TEST_SECRET_KEY = ""
    health.stripe_answer.forget()
    health.figures_answer.forget()
    yield
    redisclient.client.cache_clear()


@pytest.fixture
def beating() -> None:
    beat_worker_heart()
    beat_heart("beat", now=clock.now())


def ready() -> tuple[int, dict[str, Any]]:
    answer = Client().get("/health/ready")
    return answer.status_code, answer.json()


@pytest.mark.parametrize(
    ("path", "status"), [("/health", "ok"), ("/health/", "ok"), ("/health/live", "alive")]
)
def test_liveness_asks_nothing_else(path: str, status: str) -> None:
    assert Client().get(path).json()["status"] == status


def test_ready_when_everything_lives(beating: None) -> None:
    status, body = ready()
    assert status == 200
    assert body["status"] == "healthy"
    assert set(body["checks"].values()) == {True}
    assert {"database", "redis", "stripe", "workers"} <= set(body["checks"])
    assert set(body["metrics"]) == {"eventsPerSecond", "writerLag", "reconciliationDiff"}


def test_no_worker_means_not_ready_with_the_full_body() -> None:
    beat_heart("beat", now=clock.now())
    status, body = ready()
    assert (status, body["status"]) == (503, "degraded")
    assert (body["checks"]["workers"], body["checks"]["database"]) == (False, True)
    assert body["details"]["workers"] == "no worker heartbeat yet"
    assert "metrics" in body


@pytest.mark.parametrize("component", ["worker", "beat"])
def test_a_heartbeat_grows_old(beating: None, component: str) -> None:
    Heartbeat.objects.filter(pk=component).update(beaten_at=clock.now() - timedelta(seconds=31))
    name = "workers" if component == "worker" else "beat"
    assert ready()[1]["checks"][name] is False


def test_a_batch_that_nobody_folds_is_seen(beating: None) -> None:
    then = clock.now() - timedelta(seconds=90)
    PendingBatch.objects.create(
        batch_id=1, tenant_id=1, event_count=1, ts_min=then, ts_max=then, recorded_at=then
    )
    status, body = ready()
    assert (status, body["checks"]["pending"]) == (503, False)
    assert body["details"]["pending"].startswith("last oldest unfolded batch ")


def test_a_dead_redis_is_seen_and_does_not_hang(beating: None, settings: Settings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    redisclient.client.cache_clear()
    status, body = ready()
    assert (status, body["checks"]["redis"]) == (503, False)


def test_an_unreachable_stripe_is_seen_and_asked_rarely(beating: None, settings: Settings) -> None:
    settings.STRIPE_SECRET_KEY = "sk_live_for_tests_only"
    settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    assert ready()[1]["checks"]["stripe"] is False
    settings.STRIPE_SECRET_KEY = ""
    assert ready()[1]["checks"]["stripe"] is False  # the answer is remembered


def test_production_shows_outsiders_a_word_and_insiders_everything(
    beating: None, settings: Settings
) -> None:
    settings.PRODUCTION = True
    outside = Client(REMOTE_ADDR="203.0.113.9")
    assert outside.get("/health/ready").json() == {"status": "healthy"}
    assert outside.get("/health").json() == {"status": "ok"}
    assert outside.get("/metrics").status_code == 404
    assert "checks" in Client(REMOTE_ADDR="127.0.0.1").get("/health/ready").json()
    settings.METRICS_TOKEN = "t" * 40
    headers = {"Authorization": f"Bearer {'t' * 40}"}
    assert outside.get("/metrics", headers=headers).status_code == 200


def test_an_undeclared_proxy_on_loopback_opens_nothing(settings: Settings) -> None:
    settings.PRODUCTION = True
    forwarded = {"X-Forwarded-For": "127.0.0.1"}
    assert Client(REMOTE_ADDR="127.0.0.1").get("/metrics", headers=forwarded).status_code == 404
    settings.TRUSTED_PROXIES = ["127.0.0.1"]
    assert Client(REMOTE_ADDR="127.0.0.1").get("/metrics", headers=forwarded).status_code == 200
    outside = {"X-Forwarded-For": "127.0.0.1, 203.0.113.9"}
    assert Client(REMOTE_ADDR="127.0.0.1").get("/metrics", headers=outside).status_code == 404


def test_only_reading_is_allowed() -> None:
    assert Client().post("/health").status_code == 405
