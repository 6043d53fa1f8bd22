"""What panels remember: old sums are shown once more and read anew after the response."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import uuid4

import pytest
from django.core.cache import cache
from django.core.signals import request_finished
from django.db import close_old_connections

from stripemeter.lib import clock
from stripemeter.lib.panels import KEPT_SECONDS, remembered

#: The suite widens its connection after each request.
pytestmark = pytest.mark.django_db


@pytest.fixture
def name() -> Iterator[str]:
    name = f"panel-test-{uuid4()}:1"
    yield name
    cache.delete_many([name, f"{name}:renewing"])


def counted() -> Callable[[], int]:
    reads: list[int] = []

    def read() -> int:
        reads.append(1)
        return len(reads)

    return read


def finish_request() -> None:
    """As Django's test client does it: without closing the test's own connection."""
    request_finished.disconnect(close_old_connections)
    try:
        request_finished.send(sender=None)
    finally:
        request_finished.connect(close_old_connections)


def test_what_is_young_is_not_read_again(name: str) -> None:
    read = counted()
    first = remembered(name, 1_000, read)
    assert remembered(name, 1_000, read) == first
    finish_request()
    assert remembered(name, 1_000, read) == first
    assert first[0] == 1


def test_what_is_old_is_shown_with_its_time_and_read_after_the_response(name: str) -> None:
    read = counted()
    first = remembered(name, 0, read)
    assert remembered(name, 0, read) == first
    finish_request()
    value, at = remembered(name, 1_000, read)
    assert value == 2
    assert at > first[1]


def test_many_screens_read_it_once(name: str) -> None:
    read = counted()
    remembered(name, 0, read)
    for _ in range(5):
        assert remembered(name, 0, read)[0] == 1
    finish_request()
    finish_request()
    assert remembered(name, 1_000, read)[0] == 2


def test_a_read_that_fails_leaves_what_was_there(name: str) -> None:
    remembered(name, 0, counted())

    def fails() -> int:
        raise RuntimeError("no database")

    assert remembered(name, 0, fails)[0] == 1
    finish_request()
    assert remembered(name, 1_000, counted())[0] == 1
    # and the next request may try again
    remembered(name, 0, lambda: 7)
    finish_request()
    assert remembered(name, 1_000, counted())[0] == 7


def test_what_is_too_old_to_show_is_read_at_once(name: str) -> None:
    cache.set(name, (1, clock.now() - timedelta(seconds=KEPT_SECONDS)), timeout=KEPT_SECONDS)
    assert cache.touch(name, timeout=0)
    assert remembered(name, 1_000, lambda: 5)[0] == 5
