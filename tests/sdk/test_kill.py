"""Both clients keep sending while the web server is killed ten times: the total is exact."""

import json
import os
import subprocess
import threading
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from django.db import connection
from django.db.models import Count, Sum

from ledger.models import Event
from stripemeter.sdk import RetryPolicy, StripeMeterClient
from tests.builders.tenancy import Caller, make_caller
from tests.support.processes import HttpProcess

KILLS = 10
GIVE_UP_S = 500
PERSISTENT = RetryPolicy(pause_base=0.05, pause_max=0.5)


def expected_total(events: int) -> Decimal:
    """Sum of 0.001, 0.002, ... with one thousandth for each event's place."""
    return Decimal(events * (events + 1) // 2) / 1000


def drive_python(url: str, caller: Caller, events: int, reported: Counter[str]) -> None:
    client = StripeMeterClient(
        url, "acme", "python", caller.plaintext, timeout=10, batch_size=50, max_buffered=400,
        flush_interval=0.1, on_full="block", retry_policy=PERSISTENT,
        on_error=lambda error, events: reported.update([type(error).__name__]),
    )  # fmt: skip
    for place in range(1, events + 1):
        client.buffer("kill", quantity=Decimal(place) / 1000)
    client.close(timeout=120)


def start_node(package: Path, url: str, caller: Caller, events: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["node", "test-support/drive.mjs", url, "acme", "node", str(events), "-"],
        cwd=package, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "STRIPEMETER_API_KEY": caller.plaintext},
    )  # fmt: skip


def wait_for_events(count: int, is_running) -> None:
    """Wait until so many events are stored; raises when the senders ended before."""
    end = time.monotonic() + GIVE_UP_S
    while Event.objects.count() < count:
        assert is_running(), "the senders ended before all was sent"
        assert time.monotonic() < end, f"only {Event.objects.count()} of {count} events came"
        time.sleep(0.02)


@pytest.mark.parametrize("events", [5_000, pytest.param(100_000, marks=pytest.mark.large)])
def test_no_event_is_lost_or_doubled_over_ten_kills_of_the_server(
    web: HttpProcess, node_package: Path, events: int
) -> None:
    caller = make_caller("acme")
    reported: Counter[str] = Counter()
    thread = threading.Thread(
        target=drive_python, args=(web.url, caller, events, reported), daemon=True
    )
    node = start_node(node_package, web.url, caller, events)
    thread.start()
    try:
        for kill in range(1, KILLS + 1):
            wait_for_events(
                2 * events * kill // (KILLS + 2),
                lambda: thread.is_alive() or node.poll() is None,
            )
            web.kill()
            web.start()
        thread.join()
        out, err = node.communicate(timeout=GIVE_UP_S)
    finally:
        node.kill()
    assert (node.returncode, err) == (0, "")
    assert json.loads(out)["pending"] == 0
    rows = Event.objects.values_list("customer_ref").annotate(Count("key"), Sum("quantity"))
    assert sorted(rows.order_by("customer_ref")) == [
        ("node", events, expected_total(events)),
        ("python", events, expected_total(events)),
    ]
    print(f"{events} events a client, {KILLS} kills: {dict(reported)}, node {out.strip()}")
    read = StripeMeterClient(web.url, "acme", api_key=caller.plaintext, retry_policy=PERSISTENT)
    assert [read.get_usage(name)["kill"] for name in ("python", "node")] == [
        expected_total(events)
    ] * 2
    read.close()
    connection.close()
