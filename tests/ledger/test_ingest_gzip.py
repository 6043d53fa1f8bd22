"""Gzipped bodies on ingest: the same as plain ones, bounded before and after unpacking."""

import gzip
import json
import zlib
from typing import Any

import pytest
from django.test import Client

from ledger.api import IngestView
from ledger.models import Event
from stripemeter.lib import clock
from stripemeter.lib.instants import rfc3339
from tests.builders.tenancy import Caller, make_caller

URL = "/v1/events/ingest"
pytestmark = pytest.mark.django_db


@pytest.fixture
def acme() -> Caller:
    make_caller("globex")
    return make_caller("acme")


def body(**extra: Any) -> bytes:
    event = {
        "tenantId": "acme", "metric": "m", "customerRef": "c", "quantity": 1,
        "ts": rfc3339(clock.now()), "idempotencyKey": "k", **extra,
    }  # fmt: skip
    return json.dumps({"events": [event]}).encode()


def post(caller: Caller, data: bytes, encoding: str = "gzip") -> Any:
    headers = caller.headers | {"Content-Encoding": encoding}
    return Client().post(URL, data, "application/json", headers=headers)


def test_a_gzipped_batch_is_the_same_as_a_plain_one(acme: Caller) -> None:
    same = body()
    assert post(acme, gzip.compress(same)).json()["accepted"] == 1
    assert post(acme, same, encoding="identity").json()["duplicates"] == 1
    assert Event.objects.count() == 1


@pytest.mark.parametrize(
    "data",
    [b"{}", gzip.compress(b"{}")[:-1], gzip.compress(b"{}") * 2, zlib.compress(b"{}")],
    ids=["plain", "cut off", "two members", "zlib"],
)
def test_what_is_no_whole_gzip_file_is_refused(acme: Caller, data: bytes) -> None:
    answer = post(acme, data)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_encoding")
    assert Event.objects.count() == 0


def test_a_small_body_that_unpacks_to_a_large_one_is_refused(
    acme: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(IngestView, "body_limit_bytes", 10_000)
    bomb = gzip.compress(body(meta={"x": "a" * 5_000_000}))
    assert len(bomb) < 10_000
    assert post(acme, bomb).status_code == 413
    assert post(acme, gzip.compress(body(meta={"x": "a" * 3_000}))).status_code == 200


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "x-gzip"])
def test_other_encodings_are_refused(acme: Caller, encoding: str) -> None:
    assert post(acme, gzip.compress(body()), encoding=encoding).status_code == 415
    assert Event.objects.count() == 0
