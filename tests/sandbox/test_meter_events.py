"""Meter events, their sums, and what is refused."""

import pytest
import stripe

from billing.stripe_sandbox.process import SandboxProcess
from tests.sandbox.builders import make_customer, make_meter, send, summaries, total

DAY = 86_400


def test_an_event_shows_in_the_sum_of_its_customer(sandbox, client):
    meter, customer = make_meter(client), make_customer(client)
    event = send(client, customer, "12.5", identifier="one")
    send(client, customer, "-2.5", identifier="two")
    send(client, make_customer(client), "99", identifier="three")
    assert event.identifier == "one"
    assert event.livemode is False
    assert total(client, meter.id, customer, sandbox.now()) == 10.0


def test_a_known_identifier_is_refused_without_a_code_and_counts_once(sandbox, client):
    meter, customer = make_meter(client), make_customer(client)
    send(client, customer, "1", identifier="same", key="first")
    with pytest.raises(stripe.InvalidRequestError) as caught:
        send(client, customer, "1", identifier="same", key="second")
    assert caught.value.http_status == 400
    assert caught.value.error.code is None
    assert caught.value.user_message == "An event already exists with identifier same."
    assert caught.value.headers["stripe-should-retry"] == "false"
    assert total(client, meter.id, customer, sandbox.now()) == 1.0


def test_an_identifier_is_forgotten_after_24_hours_of_the_sandbox_clock(sandbox, client):
    make_meter(client)
    customer = make_customer(client)
    send(client, customer, "1", identifier="same")
    sandbox.advance(DAY - 60)
    with pytest.raises(stripe.InvalidRequestError):
        send(client, customer, "1", identifier="same")
    sandbox.advance(120)
    send(client, customer, "1", identifier="same")
    assert [line["outcome"] for line in sandbox.journal()] == ["applied", "applied"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"timestamp": -35 * DAY - 60}, "cannot be more than 35 days in past"),
        ({"timestamp": 400}, "cannot be more than 5 minutes in the future"),
        ({"identifier": "x" * 101}, "at most 100 characters"),
        ({"event_name": "nothing"}, 'No active meter found for event name "nothing"'),
        ({"payload": {"value": "1"}}, "customer mapping key"),
        ({"payload": {"stripe_customer_id": "cus_nobody", "value": "1"}}, "No such customer"),
    ],
)
def test_wrong_events_are_refused(sandbox, client, fields, message):
    make_meter(client)
    customer = make_customer(client)
    if "timestamp" in fields:
        fields = {"timestamp": int(sandbox.now()) + fields["timestamp"]}
    with pytest.raises(stripe.InvalidRequestError, match=message):
        send(client, customer, "1", **fields)
    assert sandbox.journal() == []


@pytest.mark.parametrize("value", ["", "ten", "1e3", "0x10", "NaN", "1234567890123456"])
def test_values_that_are_no_plain_numbers_of_15_digits_are_refused(sandbox, client, value):
    make_meter(client)
    with pytest.raises(stripe.InvalidRequestError):
        send(client, make_customer(client), value)


def test_the_oldest_and_newest_moments_are_taken(sandbox, client):
    make_meter(client)
    customer = make_customer(client)
    sandbox.set_clock(int(sandbox.now()), freeze=True)
    now = int(sandbox.now())
    send(client, customer, "1", timestamp=now - 35 * DAY)
    send(client, customer, "1", timestamp=now + 300)
    assert len(sandbox.journal()) == 2


def test_an_archived_meter_takes_nothing_until_it_is_reactivated(sandbox, client):
    meter, customer = make_meter(client), make_customer(client)
    client.v1.billing.meters.deactivate(meter.id)
    with pytest.raises(stripe.InvalidRequestError, match="No active meter"):
        send(client, customer, "1")
    assert client.v1.billing.meters.reactivate(meter.id).status == "active"
    send(client, customer, "1")


def test_count_counts_events_whatever_their_value(sandbox, client):
    meter, customer = make_meter(client, formula="count"), make_customer(client)
    for value in ("5", "7", "0"):
        send(client, customer, value)
    assert total(client, meter.id, customer, sandbox.now()) == 3.0


def test_last_takes_the_newest_timestamp_in_whatever_order_they_arrive(sandbox, client):
    meter, customer = make_meter(client, formula="last"), make_customer(client)
    now = int(sandbox.now())
    send(client, customer, "30", timestamp=now - 10)
    send(client, customer, "20", timestamp=now - 600)
    assert total(client, meter.id, customer, now) == 30.0


def test_a_windowed_meter_keeps_the_last_received_event_of_each_utc_hour(sandbox, client):
    meter, customer = make_meter(client, event_time_window="hour"), make_customer(client)
    hour = int(sandbox.now()) // 3600 * 3600 - 7200
    send(client, customer, "5", timestamp=hour + 1800)
    send(client, customer, "3", timestamp=hour + 60)
    send(client, customer, "10", timestamp=hour + 3600)
    assert total(client, meter.id, customer, sandbox.now()) == 13.0


def test_a_cancelled_event_leaves_the_sum(sandbox, client):
    meter, customer = make_meter(client), make_customer(client)
    send(client, customer, "4", identifier="keep")
    send(client, customer, "8", identifier="drop")
    adjustment = client.v1.billing.meter_event_adjustments.create(
        {"event_name": "api_calls", "type": "cancel", "cancel": {"identifier": "drop"}}
    )
    assert adjustment.status == "pending"
    assert total(client, meter.id, customer, sandbox.now()) == 4.0
    assert [line["outcome"] for line in sandbox.journal()] == ["applied", "applied", "cancelled"]


def test_an_event_older_than_24_hours_cannot_be_cancelled(sandbox, client):
    make_meter(client)
    send(client, make_customer(client), "4", identifier="old")
    sandbox.advance(DAY + 60)
    with pytest.raises(stripe.InvalidRequestError, match="24 hours"):
        client.v1.billing.meter_event_adjustments.create(
            {"event_name": "api_calls", "type": "cancel", "cancel": {"identifier": "old"}}
        )


@pytest.mark.parametrize(("shift", "window"), [(30, None), (60, "hour"), (3600, "day")])
def test_misaligned_ranges_are_refused(sandbox, client, shift, window):
    meter, customer = make_meter(client), make_customer(client)
    day = int(sandbox.now()) // DAY * DAY
    fields = {"value_grouping_window": window} if window else {}
    for start, end in ((day - DAY + shift, day), (day - DAY, day + shift)):
        with pytest.raises(stripe.InvalidRequestError, match="aligned"):
            summaries(client, meter.id, customer, start, end, **fields)


def test_daily_summaries_cut_at_utc_midnight_and_page_by_cursor(sandbox, client):
    meter, customer = make_meter(client), make_customer(client)
    today = int(sandbox.now()) // DAY * DAY
    for number in range(1, 6):
        send(client, customer, str(number), timestamp=today - number * DAY)
        send(client, customer, "0.5", timestamp=today - number * DAY + DAY - 1)
    found = []
    cursor = {}
    while True:
        part = summaries(
            client,
            meter.id,
            customer,
            today - 10 * DAY,
            today,
            value_grouping_window="day",
            limit=2,
            **cursor,
        )
        found += [(s.start_time, s.end_time, s.aggregated_value) for s in part.data]
        if not part.has_more:
            break
        cursor = {"starting_after": part.data[-1].id}
    days = [today - number * DAY for number in range(1, 6)]
    assert found == [(day, day + DAY, n + 0.5) for n, day in enumerate(days, start=1)]


def test_a_meter_event_name_belongs_to_one_active_meter(client):
    first = make_meter(client)
    with pytest.raises(stripe.InvalidRequestError, match="already exists"):
        make_meter(client)
    client.v1.billing.meters.deactivate(first.id)
    make_meter(client)
    assert len(client.v1.billing.meters.list({"status": "inactive"}).data) == 1


def test_unknown_parameters_and_missing_ones_are_refused(client):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        client.v1.customers.create({"emial": "x@example.com"})
    assert (caught.value.code, caught.value.param) == ("parameter_unknown", "emial")
    with pytest.raises(stripe.InvalidRequestError) as caught:
        client.v1.billing.meters.create({"display_name": "x", "event_name": "y"})
    assert caught.value.code == "parameter_missing"
    with pytest.raises(stripe.InvalidRequestError, match="must be one of"):
        make_meter(client, formula="max")


def test_a_kill_9_of_the_sandbox_loses_no_answered_event(tmp_path):
    from tests.sandbox.conftest import TEST_KEY, VERSION

    database = str(tmp_path / "sandbox.sqlite3")
    with SandboxProcess(db=database) as sandbox:
        client = stripe.StripeClient(
            TEST_KEY, base_addresses=sandbox.base_addresses, stripe_version=VERSION
        )
        meter, customer = make_meter(client), make_customer(client)
        for number in range(20):
            send(client, customer, "1", identifier=f"n{number}", key=f"n{number}")
        sandbox.kill()
        sandbox.start()
        assert total(client, meter.id, customer, sandbox.now()) == 20.0
        with pytest.raises(stripe.InvalidRequestError, match="already exists"):
            send(client, customer, "1", identifier="n7", key="other")
