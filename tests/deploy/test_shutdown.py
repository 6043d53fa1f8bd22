"""SIGTERM ends the web server gracefully: requests are answered, nothing accepted is lost."""

import json
import signal
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path

import pytest

from ledger.models import Event
from stripemeter.lib import clock
from stripemeter.lib.instants import rfc3339
from stripemeter.runtime.processes import wait_until
from tests.builders.tenancy import Caller, make_caller
from tests.support import processes

pytestmark = pytest.mark.xdist_group("shutdown")


def post(url: str, caller: Caller, key: str) -> int:
    """The status, or 0 if the connection was refused or cut."""
    event = {
        "tenantId": "acme", "metric": "m", "customerRef": "c", "quantity": 1,
        "ts": rfc3339(clock.now()), "idempotencyKey": key,
    }  # fmt: skip
    request = urllib.request.Request(
        f"{url}/v1/events/ingest", data=json.dumps({"events": [event]}).encode(),
        headers={"Content-Type": "application/json", **caller.headers},
    )  # fmt: skip
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return refusal.code
    except (OSError, HTTPException):
        return 0


def test_requests_under_way_are_answered_when_the_web_server_is_told_to_end(
    transactional_db: None, tmp_path: Path
) -> None:
    caller = make_caller("acme")
    env = {"STRIPEMETER_FAULT_POINTS": "ingest.stored=sleep:1.5"}
    server = processes.HttpProcess(
        processes.granian, tmp_path / "web.log", health="/health/live", env=env
    )
    server.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(post, server.url, caller, f"k{n}") for n in range(4)]
            assert wait_until(lambda: Event.objects.count() == 4, timeout_s=120)
            assert server._child is not None
            server._child.send_signal(signal.SIGTERM)
            assert [answer.result() for answer in answers] == [200] * 4
        assert wait_until(lambda: not server.running, timeout_s=120)
    finally:
        server.kill()


def test_no_accepted_event_is_lost_when_the_web_server_ends_under_load(
    transactional_db: None, tmp_path: Path
) -> None:
    caller = make_caller("acme")
    server = processes.HttpProcess(
        lambda port: processes.granian(port, workers=2), tmp_path / "web.log", health="/health/live"
    )
    server.start()
    accepted: list[str] = []
    refused: list[int] = []

    def client(number: int) -> None:
        for place in range(10_000):
            status = post(server.url, caller, f"{number}-{place}")
            if status == 200:
                accepted.append(f"{number}-{place}")
            else:
                refused.append(status)
                return

    threads = [threading.Thread(target=client, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    try:
        assert wait_until(lambda: len(accepted) > 60, timeout_s=240)
        server.stop(patience_s=120)
        for thread in threads:
            thread.join()
    finally:
        server.kill()
    stored = set(Event.objects.values_list("key_text", flat=True))
    assert set(accepted) - stored == set()
    assert set(refused) == {0}  # cut off at the door, never a 5xx
    assert "request.failed" not in server.output()
