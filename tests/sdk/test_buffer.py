"""The buffer: flushed by size and time, bounded, and never the place where an event is lost."""

import os
import subprocess
import sys
import threading
from decimal import Decimal

import pytest

from stripemeter.sdk import BufferFull, ClientClosed, DeliveryFailed, RetryPolicy

PATIENT = RetryPolicy(pause_base=3600.0, pause_max=3600.0)


def test_the_buffer_is_sent_when_a_batch_is_together(server, make_client):
    client = make_client(batch_size=10)
    keys = [client.buffer("m", quantity=place) for place in range(10)]
    server.wait_for(lambda: server.requests)
    assert [event["idempotencyKey"] for event in server.requests[0]["events"]] == keys


def test_the_buffer_is_sent_when_the_oldest_event_has_waited(server, make_client):
    client = make_client(flush_interval=0.05)
    client.buffer("m")
    server.wait_for(lambda: server.requests)
    assert server.total == 1


def test_a_steady_trickle_does_not_put_the_timed_flush_off(server, make_client):
    client = make_client(flush_interval=0.2, batch_size=1000)
    stop = threading.Event()

    def trickle():
        while not stop.wait(0.01):
            client.buffer("m")

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        server.wait_for(lambda: len(server.requests) >= 2)
    finally:
        stop.set()
        thread.join()


def test_flush_sends_all_and_answers_for_each_event(server, make_client):
    client = make_client(batch_size=1000)
    for _ in range(300):
        client.buffer("m", quantity="0.5", meta={"text": "x" * 5000})
    result = client.flush()
    assert (result.accepted, client.pending, len(server.requests)) == (300, 0, 2)
    assert [row.index for row in result.results] == list(range(300))
    assert server.total == Decimal(150)
    assert client.flush() is None


def test_a_failed_flush_raises_and_keeps_the_events(server, make_client):
    client = make_client(retry_attempts=1)
    keys = [client.buffer("m") for _ in range(3)]
    server.faults.extend(["500_after_apply", "503"])
    with pytest.raises(DeliveryFailed) as caught:
        client.flush()
    assert [event.idempotency_key for event in caught.value.events] == keys
    assert client.pending == 3
    assert client.flush().duplicates == 3
    assert server.total == 3


def test_a_failed_background_flush_is_reported_and_tried_again(server, make_client, errors):
    server.faults.extend(["503"] * 5)
    client = make_client(batch_size=2, retry_attempts=0)
    client.buffer("m")
    client.buffer("m")
    server.wait_for(lambda: len(server.requests) == 6)
    client.flush()
    assert server.total == 2
    assert [type(error) for error, _ in errors] == [DeliveryFailed] * 5


def test_a_wrong_key_loses_no_event(server, make_client, errors):
    server.faults.extend(["401"] * 3)
    client = make_client(batch_size=1)
    client.buffer("m")
    server.wait_for(lambda: len(server.requests) == 4)
    client.flush()
    assert server.total == 1
    assert {error.status_code for error, _ in errors} == {401}


def test_a_poisoned_batch_is_not_sent_for_ever(server, make_client, errors):
    server.refuse_metric = "bad"
    client = make_client()
    for name in ("good", "bad", "good"):
        client.buffer(name)
    result = client.flush()
    assert [row.status for row in result.results] == ["accepted", "error", "accepted"]
    assert (client.pending, len(server.requests), len(errors)) == (0, 2, 1)


def test_flush_does_not_wait_for_a_background_pause(server, make_client):
    server.faults.append("503")
    client = make_client(batch_size=1, retry_policy=PATIENT)
    client.buffer("m")
    server.wait_for(lambda: server.requests)
    assert client.flush().accepted == 1


def test_a_full_buffer_raises_and_drops_nothing(server, make_client):
    client = make_client(batch_size=5, max_buffered=5, retry_policy=PATIENT)
    server.faults.append("503")
    for _ in range(5):
        client.buffer("m")
    server.wait_for(lambda: server.requests)
    with pytest.raises(BufferFull):
        client.buffer("m")
    client.flush()
    client.buffer("m")
    client.flush()
    assert server.total == 6


def test_a_full_buffer_blocks_when_asked_to(server, make_client):
    client = make_client(batch_size=5, max_buffered=5, on_full="block")
    threads = [
        threading.Thread(target=lambda: [client.buffer("m") for _ in range(250)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.flush()
    assert server.total == 1000
    assert max(len(request["events"]) for request in server.requests) <= 5


def test_a_blocked_caller_is_let_go_by_close(server, make_client):
    client = make_client(batch_size=1, max_buffered=1, on_full="block", retry_policy=PATIENT)
    server.faults.append("503")
    client.buffer("m")
    server.wait_for(lambda: server.requests)
    caught = []

    def blocked():
        try:
            client.buffer("m")
        except ClientClosed as error:
            caught.append(error)

    thread = threading.Thread(target=blocked)
    thread.start()
    client.close()
    thread.join()
    assert len(caught) == 1
    assert server.total == 1


def test_close_delivers_the_buffer(server, make_client):
    with make_client() as client:
        client.buffer("m", quantity=3)
    assert server.total == 3


def test_close_keeps_trying_until_its_time_is_over(server, make_client):
    client = make_client(retry_attempts=0)
    client.buffer("m", quantity=3)
    server.faults.extend(["503"] * 5)
    client.close(timeout=240)
    assert server.total == 3


def test_close_hands_back_what_it_could_not_deliver(server, make_client):
    client = make_client(retry_attempts=0)
    key = client.buffer("m", quantity=3)
    server.faults.append("401")
    with pytest.raises(DeliveryFailed) as caught:
        client.close()
    assert [event.idempotency_key for event in caught.value.events] == [key]
    assert make_client().track_batch(caught.value.events).accepted == 1


def test_an_error_callback_that_raises_does_no_harm(server, make_client):
    def explode(error, events):
        raise RuntimeError("callback")

    server.faults.append("503")
    client = make_client(batch_size=1, retry_attempts=0, on_error=explode)
    client.buffer("m")
    server.wait_for(lambda: len(server.requests) == 2)
    client.flush()
    assert server.total == 1


def test_an_error_callback_may_use_the_client(server, make_client):
    calls = []

    def call_back(error, events):
        calls.append(client.flush())

    server.faults.append("503")
    client = make_client(batch_size=1, retry_attempts=0, on_error=call_back)
    client.buffer("m")
    server.wait_for(lambda: len(server.requests) == 2)
    client.close()
    assert server.total == 1
    assert len(calls) == 1


def test_many_threads_lose_and_double_nothing_while_answers_get_lost(server, make_client):
    client = make_client(batch_size=50, max_buffered=300, on_full="block")
    server.faults.extend(["drop_after_apply", "503", "500_after_apply", "drop"] * 10)
    threads = [
        threading.Thread(target=lambda: [client.buffer("m", quantity=3) for _ in range(500)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close(timeout=240)
    assert (len(server.ledger), server.total) == (2000, 6000)


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


def test_the_buffer_is_sent_when_the_interpreter_ends(server):
    code = """
import sys
from stripemeter import StripeMeterClient
client = StripeMeterClient(sys.argv[1], "acme", "c1")
for _ in range(7):
    client.buffer("m")
"""
    done = run_python(code, server.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert server.total == 7


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_worker_sends_its_own_events_and_not_its_parents(server):
    code = """
import os, sys
from stripemeter import StripeMeterClient
client = StripeMeterClient(sys.argv[1], "acme", "c1")
client.buffer("parent")
client.track("parent_now")
children = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        client.buffer("child")
        client.close()
        os._exit(0)
    children.append(pid)
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
"""
    done = run_python(code, server.url)
    assert (done.returncode, done.stderr) == (0, "")
    sent = [event["metric"] for request in server.requests for event in request["events"]]
    assert sorted(sent) == ["child"] * 3 + ["parent", "parent_now"]
