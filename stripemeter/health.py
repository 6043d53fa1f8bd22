"""Liveness, readiness and metrics: what is true, not what is hoped.

In production only internal addresses and the metrics token see more than a status word.
"""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models import Min
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from ledger.models import Event, PendingBatch
from stripemeter.lib import clock, exposition, metrics, redisclient
from stripemeter.lib.access import is_internal
from stripemeter.lib.errors import NotFound
from stripemeter.lib.http import json_response
from stripemeter.lib.instants import rfc3339
from stripemeter.models import Heartbeat

HEARTBEAT_AGE_MAX = timedelta(seconds=30)
PENDING_AGE_MAX = timedelta(seconds=60)
RATE_WINDOW = timedelta(seconds=10)
STRIPE_TIMEOUT_SECONDS = 2.0
STRIPE_GOOD_SECONDS, STRIPE_BAD_SECONDS = 60.0, 10.0
FIGURES_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold for the service to work, and a word why not."""

    ok: bool
    detail: str


class _Remembered:
    """The last answer of a question that is too dear to ask on every request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until = 0.0
        self._answer: Any = None

    def get(self, ask: Callable[[], tuple[Any, float]]) -> Any:
        """The remembered answer, or that of ``ask`` (with how long it holds, in seconds)."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._answer, seconds = ask()
                self._until = time.monotonic() + seconds
            return self._answer

    def forget(self) -> None:
        """Ask again next time."""
        self._until = 0.0


stripe_answer = _Remembered()
figures_answer = _Remembered()


def _age(since: datetime | None, now: datetime, limit: timedelta, what: str) -> Check:
    if since is None:
        return Check(False, f"no {what} yet")
    age = now - since
    return Check(age <= limit, f"last {what} {max(age.total_seconds(), 0):.0f} s ago")


def _database_checks(now: datetime) -> dict[str, Check]:
    names = ("database", "workers", "beat", "pending")
    try:
        beats = dict(Heartbeat.objects.values_list("component", "beaten_at"))
        oldest = PendingBatch.objects.aggregate(oldest=Min("recorded_at"))["oldest"]
    except DatabaseError as error:
        connection.close()
        reason = str(error).splitlines()[0] if str(error) else "unreachable"
        return {name: Check(False, reason) for name in names}
    pending = Check(True, "nothing waits")
    if oldest is not None:
        pending = _age(oldest, now, PENDING_AGE_MAX, "oldest unfolded batch")
    return {
        "database": Check(True, "answers"),
        "workers": _age(beats.get("worker"), now, HEARTBEAT_AGE_MAX, "worker heartbeat"),
        "beat": _age(beats.get("beat"), now, HEARTBEAT_AGE_MAX, "beat heartbeat"),
        "pending": pending,
    }


def _ask_stripe() -> tuple[Check, float]:
    key = settings.STRIPE_SECRET_KEY or settings.STRIPE_TEST_SECRET_KEY
    if not key:
        return Check(True, "no key configured: nothing is pushed"), STRIPE_GOOD_SECONDS
    try:
        # Proxies of the environment are ignored and redirects not followed: the key goes
        # to the configured host only.
        with httpx.Client(trust_env=False, timeout=STRIPE_TIMEOUT_SECONDS) as client:
            answer = client.get(f"{settings.STRIPE_API_BASE}/v1/account", auth=(key, ""))
    except httpx.HTTPError as error:
        return Check(False, type(error).__name__), STRIPE_BAD_SECONDS
    good = answer.status_code == 200
    return (
        Check(good, f"answers {answer.status_code}"),
        STRIPE_GOOD_SECONDS if good else STRIPE_BAD_SECONDS,
    )


def readiness(now: datetime) -> dict[str, Check]:
    """Every check; the slow ones run beside each other."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        stripe = pool.submit(stripe_answer.get, _ask_stripe)
        redis = pool.submit(redisclient.answers)
        checks = _database_checks(now)
        redis_ok = redis.result()
        return {
            "database": checks["database"],
            "redis": Check(redis_ok, "answers" if redis_ok else "no answer in 250 ms"),
            "stripe": stripe.result(),
            **{name: checks[name] for name in ("workers", "beat", "pending")},
        }


def _largest(gauge_name: str, *, of: tuple[str, ...] | None = None) -> float:
    gauge = metrics.scraped_gauges.get(gauge_name)
    samples: list[metrics.Sample] = exposition.scraped(gauge) if gauge else []
    return max((value for labels, value in samples if of is None or labels == of), default=0.0)


def _figures(now: datetime) -> tuple[dict[str, float], float]:
    try:
        arrived = Event.objects.filter(recorded_at__gt=now - RATE_WINDOW).count()
    except DatabaseError:
        connection.close()
        return {"eventsPerSecond": 0, "writerLag": 0, "reconciliationDiff": 0}, 0.0
    return {
        "eventsPerSecond": round(arrived / RATE_WINDOW.total_seconds(), 1),
        "writerLag": round(_largest("queue_lag_seconds", of=("writer",)), 3),
        "reconciliationDiff": _largest("reconciliation_diff"),
    }, FIGURES_SECONDS


@require_safe
def health(request: HttpRequest) -> HttpResponse:
    """The web process answers."""
    if not is_internal(request.META):
        return json_response({"status": "ok"})
    return json_response({"status": "ok", "timestamp": rfc3339(clock.now())})


@require_safe
def live(request: HttpRequest) -> HttpResponse:
    """The web process lives; nothing else is asked, so a dead database restarts no pod."""
    return json_response({"status": "alive"})


@require_safe
def ready(request: HttpRequest) -> HttpResponse:
    """200 when every check holds, else 503 with the same body."""
    now = clock.now()
    checks = readiness(now)
    good = [check.ok for check in checks.values()]
    status = "healthy" if all(good) else "degraded" if any(good) else "unhealthy"
    code = 200 if all(good) else 503
    if not is_internal(request.META):
        return json_response({"status": status}, status=code)
    body = {
        "status": status,
        "version": settings.VERSION,
        "checks": {name: check.ok for name, check in checks.items()},
        "details": {name: check.detail for name, check in checks.items()},
        "metrics": figures_answer.get(lambda: _figures(now)),
    }
    return json_response(body, status=code)


@require_safe
def prometheus(request: HttpRequest) -> HttpResponse:
    """The numbers of all processes; as good as absent for outsiders in production."""
    if not is_internal(request.META):
        raise NotFound("Not found")
    return HttpResponse(exposition.render(), content_type=exposition.CONTENT_TYPE)


def _queue_lag() -> Iterable[metrics.Sample]:
    oldest = PendingBatch.objects.aggregate(oldest=Min("recorded_at"))["oldest"]
    waited = (clock.now() - oldest).total_seconds() if oldest else 0.0
    yield ("aggregation",), max(waited, 0.0)


def _pending_batches() -> Iterable[metrics.Sample]:
    yield (), float(PendingBatch.objects.count())


def _heartbeat_ages() -> Iterable[metrics.Sample]:
    now = clock.now()
    for beat in Heartbeat.objects.all():
        yield (beat.component,), (now - beat.beaten_at).total_seconds()


def register_gauges() -> None:
    """What the shell itself knows at scrape time; apps add theirs with `metrics.at_scrape`."""
    metrics.at_scrape(
        "queue_lag_seconds", "Age of the oldest work that waits.", ("queue",), _queue_lag
    )
    metrics.at_scrape(
        "pending_batches", "Stored batches that no fold has taken.", (), _pending_batches
    )
    metrics.at_scrape(
        "heartbeat_age_seconds", "Since the last sign of life.", ("component",), _heartbeat_ages
    )
