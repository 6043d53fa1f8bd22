"""Metrics are configured once, and a change of aggregation rebuilds their counters."""

import json
from datetime import timedelta

import pytest

from counters.services.fold import fold_everything
from ledger.models import Metric
from stripemeter.lib import clock
from stripemeter.lib.instants import rfc3339
from stripemeter.tenancy.models import AuditEntry
from tests.builders.tenancy import make_caller

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme(client):
    make_caller("globex")
    return make_caller("acme")


def send(client, caller, method, path, body):
    call = getattr(client, method)
    return call(path, json.dumps(body), content_type="application/json", headers=caller.headers)


def post_levels(client, caller, *levels):
    now = clock.now()
    events = [
        {
            "tenantId": caller.tenant.key,
            "metric": "seats",
            "customerRef": "c",
            "quantity": level,
            "ts": rfc3339(now - timedelta(minutes=len(levels) - place)),
        }
        for place, level in enumerate(levels)
    ]
    answer = send(client, caller, "post", "/v1/events/ingest", {"events": events})
    assert answer.json()["accepted"] == len(levels)


def current(client, caller):
    path = f"/v1/usage/current?tenantId={caller.tenant.key}&customerRef=c"
    return client.get(path, headers=caller.headers).json()["metrics"][0]["current"]


def test_events_register_a_metric_that_the_operator_sees_as_unconfigured(client, acme):
    post_levels(client, acme, 5)
    path = "/v1/metrics?configured=false"
    found = client.get(path, headers=acme.headers).json()["metrics"]
    assert [(metric["name"], metric["aggregation"]) for metric in found] == [("seats", "sum")]


def test_another_aggregation_rebuilds_what_was_folded(client, acme):
    post_levels(client, acme, 5, 9, 4)
    fold_everything(now=clock.now())
    assert current(client, acme) == 18
    answer = send(client, acme, "put", "/v1/metrics/seats", {"aggregation": "last"})
    assert answer.status_code == 200
    assert current(client, acme) == 4
    assert AuditEntry.objects.filter(action="metric.configured").count() == 1


def test_a_configured_metric_is_not_created_again(client, acme):
    body = {"name": "seats", "aggregation": "last"}
    assert send(client, acme, "post", "/v1/metrics", body).status_code == 201
    assert send(client, acme, "post", "/v1/metrics", body).status_code == 409


def test_a_foreign_metric_is_unknown(client, acme):
    globex = make_caller("globex")
    send(client, globex, "post", "/v1/metrics", {"name": "secret", "unit": "canary-b"})
    assert client.get("/v1/metrics/secret", headers=acme.headers).status_code == 404
    assert send(client, acme, "put", "/v1/metrics/secret", {"unit": "x"}).status_code == 404
    assert Metric.objects.get(name="secret").unit == "canary-b"


def test_unknown_settings_and_aggregations_are_refused(client, acme):
    for body in ({"aggregation": "median"}, {"aggregate": "sum"}, {"uniqueField": "body.x"}):
        answer = send(client, acme, "post", "/v1/metrics", {"name": "m", **body})
        assert answer.status_code == 400, body
    assert not Metric.objects.filter(name="m", configured=True).exists()
