"""The disk spool: a crash of the caller loses nothing and doubles nothing."""

import resource
import signal
import subprocess
import sys
from contextlib import ExitStack, closing

import pytest

from stripemeter.sdk import StripeMeterError
from stripemeter.sdk.events import make_event
from stripemeter.sdk.spool import REJECTED_NAME, Spool

CRASHING = """
import os, signal, sys
from stripemeter import StripeMeterClient
client = StripeMeterClient(sys.argv[1], "acme", "c1", spool_dir=sys.argv[2], flush_interval=3600,
                           batch_size=1000)
for number in range(int(sys.argv[3])):
    print(client.buffer("m", quantity=number), flush=True)
if len(sys.argv) > 4:
    client.flush()
    client.buffer("m", quantity=1000)
os.kill(os.getpid(), signal.SIGKILL)
"""


def crash(server, directory, count: int, *extra: str) -> list[str]:
    """Run a caller that is killed with events in its buffer; return the keys it was given."""
    done = subprocess.run(
        [sys.executable, "-c", CRASHING, server.url, str(directory), str(count), *extra],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stdout.split()


@pytest.fixture
def open_spool(tmp_path):
    """Open spools on one directory; they are closed when the test ends."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(closing(Spool(tmp_path, **options)))


def events(*names: str):
    return [make_event(tenant_id="acme", metric=name, customer_ref="c1") for name in names]


def test_events_of_a_killed_caller_are_sent_at_the_next_start_with_their_keys(
    server, make_client, tmp_path
):
    keys = crash(server, tmp_path, 20)
    assert server.requests == []
    make_client(spool_dir=tmp_path).close()
    assert [event["idempotencyKey"] for event in server.requests[0]["events"]] == keys
    assert server.total == sum(range(20))
    assert list(tmp_path.iterdir()) == []


def test_events_with_a_verdict_are_not_sent_again_after_a_crash(server, make_client, tmp_path):
    crash(server, tmp_path, 5, "flush")
    make_client(spool_dir=tmp_path).close()
    assert [len(request["events"]) for request in server.requests] == [5, 1]
    assert server.total == sum(range(5)) + 1000


def test_a_next_start_that_crashes_too_hands_on_what_it_took_over(server, make_client, tmp_path):
    crash(server, tmp_path, 3)
    crash(server, tmp_path, 4)
    make_client(spool_dir=tmp_path).close()
    assert len(server.ledger) == 7


def test_the_spool_of_a_living_client_is_left_alone(server, make_client, tmp_path):
    living = make_client(spool_dir=tmp_path)
    living.buffer("m")
    other = make_client(spool_dir=tmp_path)
    assert (living.pending, other.pending) == (1, 0)
    other.close()
    living.close()
    assert server.total == 1


def test_close_leaves_on_disk_what_it_could_not_deliver(server, make_client, tmp_path):
    client = make_client(spool_dir=tmp_path, retry_attempts=0)
    client.buffer("m", quantity=9)
    server.faults.append("401")
    client.close()
    make_client(spool_dir=tmp_path).close()
    assert server.total == 9


def test_only_events_without_a_verdict_are_taken_over(open_spool):
    first, second, third = events("a", "b", "c")
    spool = open_spool()
    spool.append([first, second, third])
    spool.settle([second])
    spool.close()
    assert open_spool().adopt() == [first, third]


def test_a_torn_line_is_skipped_and_the_lines_before_it_are_kept(open_spool, tmp_path):
    spool = open_spool()
    first, second = events("a", "b")
    spool.append([first, second])
    spool.close()
    (log,) = tmp_path.glob("*/*.log")
    whole = log.read_bytes()
    log.write_bytes(whole[:-7])
    assert open_spool().adopt() == [first]


def test_a_damaged_line_does_not_hide_the_others(open_spool, tmp_path):
    spool = open_spool()
    kept = events("a", "b", "c")
    spool.append(kept)
    spool.close()
    (log,) = tmp_path.glob("*/*.log")
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(lines[0] + lines[1].replace(b'"b"', b'"x"') + lines[2])
    assert open_spool().adopt() == [kept[0], kept[2]]


def test_segments_are_deleted_once_all_their_events_have_a_verdict(
    open_spool, tmp_path, monkeypatch
):
    monkeypatch.setattr("stripemeter.sdk.spool.SEGMENT_BYTES_MAX", 400)
    spool = open_spool()
    batch = events(*"abcdefgh")
    for event in batch:
        spool.append([event])
    before = len(list(tmp_path.glob("*/*.log")))
    spool.settle(batch[:-1])
    after = len(list(tmp_path.glob("*/*.log")))
    assert (before > 2, after <= 2) == (True, True)
    spool.settle(batch[-1:])
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_a_spool_that_is_never_idle_still_stays_small(open_spool, tmp_path, monkeypatch):
    monkeypatch.setattr("stripemeter.sdk.spool.SEGMENT_BYTES_MAX", 2000)
    spool = open_spool(fsync=False)
    waiting = events("a")
    spool.append(waiting)
    for _ in range(200):
        fresh = events("a")
        spool.append(fresh)
        spool.settle(waiting)
        waiting = fresh
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*.log")) < 8000


def test_refused_events_are_kept_for_a_person(server, make_client, tmp_path):
    server.refuse_metric = "bad"
    client = make_client(spool_dir=tmp_path)
    client.buffer("bad")
    client.flush()
    client.close()
    text = (tmp_path / REJECTED_NAME).read_text()
    assert '"error":"not this one"' in text
    assert '"metric":"bad"' in text
    make_client(spool_dir=tmp_path).close()
    assert len(server.requests) == 1


def test_an_event_that_cannot_be_written_is_not_taken(server, make_client, tmp_path):
    client = make_client(spool_dir=tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
    try:
        with pytest.raises(StripeMeterError, match="spool"):
            client.buffer("m")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert client.pending == 0
    client.buffer("m")
    client.flush()
    assert server.total == 1
