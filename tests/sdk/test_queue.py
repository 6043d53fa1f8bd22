"""The buffer's state on a clock of the test's own."""

import pytest

from stripemeter.sdk.events import make_event
from stripemeter.sdk.queue import EventQueue
from stripemeter.sdk.retry import RetryPolicy


@pytest.fixture
def queue() -> EventQueue:
    """Flushes at 3 events or 5 seconds, holds at most 4."""
    return EventQueue(batch_size=3, flush_interval=5.0, bound=4)


def event():
    return make_event(tenant_id="acme", metric="m", customer_ref="c1")


def test_time_counts_from_the_oldest_event(queue):
    assert queue.wait_s(0.0) is None
    queue.put(event(), 10.0)
    queue.put(event(), 14.5)
    assert queue.wait_s(14.5) == 0.5
    assert queue.wait_s(15.0) == 0


def test_a_full_batch_is_due_at_once(queue):
    for _ in range(3):
        queue.put(event(), 10.0)
    assert queue.wait_s(10.0) == 0


def test_events_on_their_way_count_against_the_bound(queue):
    for _ in range(4):
        queue.put(event(), 0.0)
    taken = queue.take()
    assert (queue.is_full, len(queue)) == (True, 4)
    queue.settle(taken[:1])
    assert (queue.is_full, len(queue)) == (False, 3)
    queue.reserve()
    assert queue.is_full


def test_what_is_put_back_is_first_in_order_and_due(queue):
    events = [event() for _ in range(3)]
    for one in events[:2]:
        queue.put(one, 0.0)
    taken = queue.take()
    queue.put(events[2], 1.0)
    queue.put_back(taken, 1.0)
    assert queue.wait_s(1.0) == 0
    assert queue.everything() == events
    assert queue.take() == events


def test_a_hold_grows_with_each_failure_and_ends_with_a_success(queue):
    policy = RetryPolicy(pause_base=1.0)
    queue.put(event(), 0.0)
    for ceiling in (1, 2, 4, 8, 16, 30, 30):
        queue.hold(100.0, policy, None)
        assert ceiling / 2 <= queue.wait_s(100.0) <= ceiling
    queue.hold(100.0, policy, 60.0)
    assert queue.wait_s(100.0) >= 75
    queue.settle(queue.take())
    queue.put(event(), 100.0)
    assert queue.wait_s(100.0) == 5


def test_what_nobody_is_sending_any_more_is_recalled(queue):
    events = [event(), event()]
    for one in events:
        queue.put(one, 0.0)
    queue.take()
    queue.recall(1.0)
    assert queue.take() == events
