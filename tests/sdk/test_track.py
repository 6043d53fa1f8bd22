"""Sending now: what goes over the wire, what is retried, and what becomes of refused events."""

import json
import re
import uuid
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from stripemeter.sdk import (
    ClientClosed,
    DeliveryFailed,
    EventRejected,
    InvalidEvent,
    RetryPolicy,
)

REQUEST_BYTES_MAX = 1_048_576


def test_an_event_goes_over_the_wire_as_the_contract_says(server, make_client):
    moment = datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    result = make_client().track(
        "api_calls", quantity=Decimal("1.500"), ts=moment, resource_id="r1", meta={"a": [1, None]}
    )
    request = server.requests[0]
    event = json.loads(request["body"])["events"][0]
    key = event.pop("idempotencyKey")
    assert event == {
        "tenantId": "acme",
        "metric": "api_calls",
        "customerRef": "c1",
        "quantity": 1.5,
        "ts": "2026-11-01T10:00:00.123456Z",
        "source": "sdk",
        "resourceId": "r1",
        "meta": {"a": [1, None]},
    }
    assert uuid.UUID(key).version == 7
    assert request["headers"]["authorization"] == "Bearer sm_test_key"
    assert request["headers"]["content-type"] == "application/json"
    assert (result.accepted, result.duplicates, result.conflicts) == (1, 0, 0)
    assert result.results[0].idempotency_key == key
    assert result.request_id


@pytest.mark.parametrize(
    ("quantity", "written"),
    [
        (Decimal("12345678901234567890.123456789012"), b"12345678901234567890.123456789012"),
        (0.1, b"0.1"),
        (1e-7, b"0.0000001"),
        ("2.50", b"2.5"),
        (Decimal("1E+3"), b"1000"),
        (10**37, b"1" + b"0" * 37),
        (0, b"0"),
        (Decimal("-0.0"), b"0"),
    ],
)
def test_a_quantity_reaches_the_wire_digit_for_digit(server, make_client, quantity, written):
    make_client().track("m", quantity=quantity)
    assert re.search(rb'"quantity":([^,]*),', server.requests[0]["body"]).group(1) == written


@pytest.mark.parametrize(
    "fields",
    [
        {"quantity": -1},
        {"quantity": float("nan")},
        {"quantity": Decimal("Infinity")},
        {"quantity": "1e999999999"},
        {"quantity": Decimal("1e-13")},
        {"quantity": 10**38},
        {"quantity": True},
        {"quantity": "many"},
        {"ts": datetime(2026, 1, 1)},  # noqa: DTZ001 - a naive time is the point
        {"ts": "2026-01-01"},
        {"ts": "2026-01-01T00:00:00.1234567Z"},
        {"ts": "yesterday"},
        {"customer_ref": ""},
        {"resource_id": "x" * 256},
        {"idempotency_key": ""},
        {"meta": {"when": object()}},
        {"meta": {"n": float("nan")}},
        {"meta": {"lone": "\ud800"}},
        {"meta": {"huge": "x" * 1_000_000}},
    ],
)
def test_an_event_that_cannot_be_right_is_refused_before_anything_is_sent(
    server, make_client, fields
):
    with pytest.raises(InvalidEvent):
        make_client().track("m", **fields)
    assert server.requests == []


def test_a_call_without_customer_needs_a_client_with_one(make_client):
    with pytest.raises(InvalidEvent, match="customer_ref"):
        make_client(customer_id=None).track("m")


def test_an_unknown_field_is_refused_rather_than_ignored(make_client):
    with pytest.raises(InvalidEvent, match="quantitty"):
        make_client().track_batch([{"metric": "m", "quantitty": 5}])


@pytest.mark.parametrize("fault", ["500", "503", "429:0", "drop", "html"])
def test_a_passing_failure_is_retried_with_the_same_bytes(server, make_client, fault):
    server.faults.extend([fault, fault])
    assert make_client().track("m", quantity=7).accepted == 1
    assert len({request["body"] for request in server.requests}) == 1
    assert len(server.requests) == 3
    assert server.total == 7


@pytest.mark.parametrize("fault", ["drop_after_apply", "500_after_apply", "short"])
def test_an_event_whose_answer_was_lost_counts_once(server, make_client, fault):
    server.faults.append(fault)
    result = make_client().track("m", quantity=7)
    assert (result.accepted, result.duplicates) == (0, 1)
    assert server.total == 7


def test_retries_end_and_the_error_carries_the_event_to_send_again(server, make_client):
    server.faults.extend(["500_after_apply"] * 4)
    client = make_client(retry_attempts=3)
    with pytest.raises(DeliveryFailed) as caught:
        client.track("m", quantity=7)
    assert (caught.value.status_code, caught.value.retryable) == (500, True)
    assert len(server.requests) == 4
    assert client.track_batch(caught.value.events).duplicates == 1
    assert server.total == 7


@pytest.mark.parametrize("fault", ["401", "400_page"])
def test_a_refusal_that_is_not_about_an_event_is_not_retried(server, make_client, fault):
    server.faults.append(fault)
    with pytest.raises(DeliveryFailed) as caught:
        make_client().track("m")
    assert caught.value.status_code == int(fault[:3])
    assert not caught.value.retryable
    assert len(server.requests) == 1


def test_the_servers_code_and_request_id_are_on_the_error(server, make_client):
    server.faults.append("401")
    with pytest.raises(DeliveryFailed) as caught:
        make_client().track("m")
    assert (caught.value.code, caught.value.request_id) == ("code_401", "rid")


def test_a_server_that_asks_for_an_hour_ends_the_call_and_names_the_hour(server, make_client):
    server.faults.append("429:3600")
    with pytest.raises(DeliveryFailed) as caught:
        make_client().track("m")
    assert caught.value.retry_after == 3600
    assert len(server.requests) == 1


def test_retry_after_is_waited_for(server, make_client):
    server.faults.append("429:1")
    make_client().track("m")
    first, second = server.requests
    assert second["at"] - first["at"] >= 1


def test_full_jitter_stays_below_a_doubling_ceiling():
    policy = RetryPolicy(pause_base=1, pause_max=10)
    for attempt, ceiling in enumerate([1, 2, 4, 8, 10, 10]):
        pauses = [policy.pause(attempt, None) for _ in range(200)]
        assert max(pauses) <= ceiling
        assert min(pauses) < ceiling / 4
    assert 5 <= policy.pause(0, 5) <= 6


def test_a_batch_is_split_at_a_thousand_events(server, make_client):
    result = make_client().track_batch({"metric": "m", "quantity": 2} for _ in range(2500))
    assert [len(request["events"]) for request in server.requests] == [1000, 1000, 500]
    assert (result.accepted, server.total) == (2500, 5000)
    assert [row.index for row in result.results] == list(range(2500))


def test_a_batch_is_split_at_a_mebibyte(server, make_client):
    events = [{"metric": "m", "meta": {"text": "é" * 150_000}} for _ in range(8)]
    assert make_client().track_batch(events).accepted == 8
    sizes = [len(request["body"]) for request in server.requests]
    assert len(sizes) > 1
    assert max(sizes) <= REQUEST_BYTES_MAX


def test_a_batch_that_is_too_large_for_the_server_is_halved(server, make_client):
    server.body_bytes_max = 1000
    events = [{"metric": "m"} for _ in range(10)]
    assert make_client().track_batch(events).accepted == 10
    assert server.total == 10


def test_bad_events_are_named_by_the_server_and_the_others_get_through(server, make_client, errors):
    server.refuse_metric = "bad"
    names = ["good", "bad", "good", "bad", "good"]
    result = make_client().track_batch([{"metric": name} for name in names])
    assert [row.status for row in result.results] == [
        "accepted", "error", "accepted", "error", "accepted",
    ]  # fmt: skip
    assert result.errors[0].error == "not this one"
    assert result.errors[0].code == "refused"
    assert not result.ok
    assert len(server.requests) == 2
    assert [(type(e), e.status_code, v[0].data["metric"]) for e, v in errors] == [
        (EventRejected, 400, "bad"),
        (EventRejected, 400, "bad"),
    ]
    with pytest.raises(EventRejected):
        result.raise_for_errors()


def test_a_bad_event_nobody_names_is_found_by_halving(server, make_client):
    server.refuse_metric, server.name_refused = "bad", False
    events = [{"metric": "bad" if place == 41 else "good"} for place in range(100)]
    result = make_client().track_batch(events)
    assert [row.index for row in result.errors] == [41]
    assert result.accepted == 99
    assert len(server.requests) < 20


def test_a_single_refused_event_is_raised(server, make_client):
    server.refuse_metric = "bad"
    with pytest.raises(EventRejected, match="not this one"):
        make_client().track("bad")


def test_a_conflict_is_in_the_result_and_reported(server, make_client, errors):
    client = make_client()
    client.track("m", quantity=1, idempotency_key="k")
    result = client.track("m", quantity=2, idempotency_key="k")
    assert (result.conflicts, result.ok) == (1, False)
    assert [type(error).__name__ for error, _ in errors] == ["EventConflict"]
    assert server.total == 1


def test_time_is_taken_once_and_per_event(server, make_client):
    before = datetime.now(UTC)
    make_client().track_batch([{"metric": "m"}, {"metric": "m"}])
    stamps = [datetime.fromisoformat(event["ts"]) for event in server.requests[0]["events"]]
    assert all(before <= stamp <= datetime.now(UTC) for stamp in stamps)


def test_a_closed_client_says_so(make_client):
    client = make_client()
    client.close()
    client.close()
    for call in (client.track, client.buffer):
        with pytest.raises(ClientClosed):
            call("m")


def test_the_key_is_not_in_the_repr(make_client):
    assert "sm_test_key" not in repr(make_client())


@pytest.mark.parametrize(
    "options",
    [
        {"api_url": "example.test"},
        {"tenant_id": ""},
        {"timeout": 0},
        {"retry_attempts": -1},
        {"batch_size": 1001},
        {"batch_size": 100, "max_buffered": 99},
        {"on_full": "drop"},
    ],
)
def test_options_that_make_no_sense_are_refused(make_client, options):
    with pytest.raises(ValueError):
        make_client(**options)
