"""Traces, defect reports and logs: off by default, joined by ids, and never with a secret."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from stripemeter import celery as celery_app
from stripemeter import telemetry
from stripemeter.lib import logs, requestid, tracing
from stripemeter.tasks import beat_worker_heart
from tests.builders.tenancy import make_caller
from tests.support.environment import ROOT

SECRETS = {
    "STRIPE_SECRET_KEY": "sk_live_canaryONE1234567890",
    "STRIPE_WEBHOOK_SECRET": "whsec_canaryTWO1234567890abcdefgh",
    "STRIPEMETER_METRICS_TOKEN": "canary-THREE-of-metrics",
    "STRIPEMETER_API_KEY_PEPPER": "canary-FOUR-pepper-9f8e7d6c5b4a3",
}
_SAY_EVERYTHING = """
import logging, django, structlog
django.setup()
from django.conf import settings
from stripemeter.lib.logs import get_logger
secrets = [settings.STRIPE_SECRET_KEY, settings.STRIPE_WEBHOOK_SECRETS[0],
           settings.METRICS_TOKEN, settings.API_KEY_PEPPER]
for secret in secrets:
    ours, theirs = get_logger("ours"), logging.getLogger("theirs")
    ours.warning("said.plainly", note=f"it is {secret}", list=[{"deep": (secret, b"x")}])
    ours.warning("said.by_name", headers={"Authorization": secret, "X-API-Key": "short"})
    theirs.warning("with arguments %s", secret)
    theirs.warning("with extra", extra={"canary": secret})
    try:
        raise ValueError(secret)
    except ValueError:
        ours.exception("said.in_traceback")
        theirs.exception("theirs too")
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_configured_secret_reaches_a_log_line(form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SAY_EVERYTHING],
        cwd=ROOT, capture_output=True, text=True, check=True,
        env=os.environ | SECRETS | {
            "DJANGO_SETTINGS_MODULE": "stripemeter.settings", "LOG_LEVEL": "DEBUG",
            "LOG_FORMAT": form,
        },
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert said.count("said.in_traceback") == len(SECRETS)
    assert said.count("[redacted]") >= 6 * len(SECRETS)
    for secret in SECRETS.values():
        assert secret not in said
    assert "short" not in said


def test_a_key_that_looks_like_one_is_hidden_wherever_it_stands() -> None:
    found = logs.redact_deep(
        {"a": ["Bearer abcdefgh12345678", {"sm_live_x": "sm_live_0123456789abcdef"}], "token": 1}
    )
    assert found == {"a": ["[redacted]", {"sm_live_x": "[redacted]"}], "token": "[redacted]"}


# --- request ids ---------------------------------------------------------------------------


def test_a_task_logs_under_the_id_of_the_request_that_asked_for_it() -> None:
    requestid.begin("req-of-the-caller")
    headers: dict[str, Any] = {}
    celery_app._send_request_id(headers=headers)
    requestid.end()
    seen: list[str] = []
    beat_worker_heart.push_request(headers)
    try:
        celery_app._take_request_id(task=beat_worker_heart, task_id="t-1")
        seen.append(requestid.current())
        celery_app._drop_request_id()
        seen.append(requestid.current())
    finally:
        beat_worker_heart.pop_request()
    assert seen == ["req-of-the-caller", ""]


def test_a_task_of_the_schedule_logs_under_its_own_id() -> None:
    celery_app._take_request_id(task=beat_worker_heart, task_id="t-2")
    assert requestid.current() == "task_t-2"
    celery_app._drop_request_id()


# --- Sentry --------------------------------------------------------------------------------


def test_a_defect_report_holds_no_body_header_cookie_or_secret() -> None:
    event = {
        "request": {
            "url": "https://x/v1/events?customerRef=c", "data": "body", "cookies": "c",
            "headers": {"Authorization": "Bearer abcdefgh12345678"}, "method": "POST",
            "query_string": "customerRef=c", "env": {"REMOTE_ADDR": "203.0.113.9"},
        },
        "user": {"ip_address": "203.0.113.9"},
        "extra": {"sys.argv": ["x"]},
        "exception": {"values": [{"value": "failed with sk_live_0123456789abcdef"}]},
    }  # fmt: skip
    found = telemetry.scrub(event, None)
    assert found == {
        "request": {"url": "https://x/v1/events", "method": "POST"},
        "exception": {"values": [{"value": "failed with [redacted]"}]},
    }


def test_sentry_is_told_scrubbed_defects_and_nothing_when_off() -> None:
    import sentry_sdk
    from sentry_sdk.transport import Transport

    assert sentry_sdk.get_client().is_active() is False
    told: list[Any] = []

    class Recorder(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            told.extend(item.payload.json for item in envelope.items)

    telemetry.start_sentry(
        dsn="https://public@sentry.invalid/1", environment="test", version="1",
        traces_sample_rate=0, transport=Recorder(),
    )  # fmt: skip
    try:
        try:
            secret = "sk_live_0123456789abcdef"
            raise RuntimeError(f"with {secret}")
        except RuntimeError:
            sentry_sdk.capture_exception()
        sentry_sdk.flush()
    finally:
        sentry_sdk.init()
    assert [item["exception"]["values"][0]["value"] for item in told] == ["with [redacted]"]
    assert "0123456789abcdef" not in repr(told)


# --- OpenTelemetry ---------------------------------------------------------------------------


@pytest.fixture
def spans() -> Iterator[Callable[[], dict[str, Any]]]:
    """Tracing on, into memory; what was finished, by name."""
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    telemetry.start_tracing(version="1", exporter=exporter)
    yield lambda: {span.name: span for span in exporter.get_finished_spans()}
    telemetry.stop_tracing()


def test_without_tracing_a_span_is_nothing(settings: Settings) -> None:
    assert not settings.TRACES
    assert not settings.SENTRY_DSN
    assert tracing.span("x", origins=[1]) is tracing.span("y")
    assert tracing.carried(print) is print


@pytest.mark.django_db
def test_a_trace_leads_from_ingest_over_fold_to_the_call_of_stripe(
    spans: Callable[[], dict[str, Any]], sandbox: Any
) -> None:
    from billing.services import running
    from counters.services.fold import fold_everything
    from stripemeter.lib import clock
    from stripemeter.lib.instants import rfc3339
    from tests.builders.billing import World
    from tests.builders.tenancy import make_tenant

    caller = make_caller("acme")
    world = World(sandbox, caller.tenant, make_tenant("globex"), now=clock.now())
    world.meter()
    world.customer()
    world.mapping()
    event = {
        "tenantId": "acme", "metric": "requests", "customerRef": "c1",
        "quantity": 3, "ts": rfc3339(clock.now()),
    }  # fmt: skip
    answer = Client().post(
        "/v1/events/ingest?x=customer", {"events": [event]}, "application/json",
        headers=caller.headers,
    )  # fmt: skip
    assert answer.json()["accepted"] == 1
    fold_everything(now=clock.now())
    report = running.run_pushes(clock=clock.now, seconds=5)
    assert report.acknowledged == 1

    found = spans()
    request = next(span for name, span in found.items() if "events/ingest" in name)
    ingest, fold = found["ledger.ingest"], found["counters.fold"]
    push, call = found["billing.push"], found["stripe.push"]
    assert ingest.parent.span_id == request.context.span_id
    assert ingest.attributes["stripemeter.events"] == 1
    for later in (fold, push):
        assert [link.context.span_id for link in later.links] == [ingest.context.span_id]
    assert call.parent.span_id == push.context.span_id
    assert call.attributes["stripemeter.mode"] == "live"
    text = " ".join(span.to_json() for span in found.values())
    assert caller.plaintext not in text
    assert "customer" not in text
