"""Cases of the behaviour table: identifiers, values, time, names, sums, requests."""

import uuid

import stripe

from tests.sandbox.behaviour_account import DAY, HOUR, Account, case

# --- identifiers and idempotency keys ----------------------------------------------------


@case("identifier.duplicate")
def _(account: Account) -> None:
    meter, customer, name = account.meter(), account.customer(), uuid.uuid4().hex
    account.send(meter, customer, "2", identifier=name, key=f"{name}-1")
    error = account.refused(
        lambda: account.send(meter, customer, "2", identifier=name, key=f"{name}-2")
    )
    assert error.user_message == f"An event already exists with identifier {name}."
    assert error.error.code is None
    assert error.error.type == "invalid_request_error"
    assert error.headers["stripe-should-retry"] == "false"
    account.settled(2.0, meter, customer)


@case("identifier.same_key")
def _(account: Account) -> None:
    meter, customer, name = account.meter(), account.customer(), uuid.uuid4().hex
    first, again = (account.send(meter, customer, "2", identifier=name, key=name) for _ in range(2))
    assert again.to_dict() == first.to_dict()
    assert again.last_response.headers["idempotent-replayed"] == "true"
    account.settled(2.0, meter, customer)


@case("identifier.forgotten")
def _(account: Account) -> None:
    meter, customer = account.meter(), account.customer()
    account.send(meter, customer, "1", identifier="same")
    account.sandbox.advance(DAY + 1)
    account.send(meter, customer, "1", identifier="same")
    account.settled(2.0, meter, customer)


@case("identifier.account_wide")
def _(account: Account) -> None:
    one, other, customer, name = (
        account.meter(),
        account.meter(),
        account.customer(),
        uuid.uuid4().hex,
    )
    account.send(one, customer, "1", identifier=name)
    account.refused(lambda: account.send(other, customer, "1", identifier=name))


@case("identifier.length")
def _(account: Account) -> None:
    meter, customer = account.meter(), account.customer()
    start = uuid.uuid4().hex
    account.send(meter, customer, "1", identifier=start.ljust(100, "x"))
    account.refused(lambda: account.send(meter, customer, "1", identifier=start.ljust(101, "y")))


@case("key.other_parameters")
def _(account: Account) -> None:
    meter, customer, name = account.meter(), account.customer(), uuid.uuid4().hex
    account.send(meter, customer, "1", key=name)
    error = account.refused(lambda: account.send(meter, customer, "2", key=name))
    assert isinstance(error, stripe.IdempotencyError)


@case("key.stored_500")
def _(account: Account) -> None:
    meter, customer = account.meter(), account.customer()
    account.sandbox.fault("error_500_after")
    for _ in range(2):
        error = account.refused(lambda: account.send(meter, customer, "1", key="k"), status=500)
    assert error.headers["idempotent-replayed"] == "true"


@case("key.refusal_not_stored")
def _(account: Account) -> None:
    meter, customer, name = account.meter(), account.customer(), uuid.uuid4().hex
    account.refused(lambda: account.send(meter, customer, "many", key=name))
    account.send(meter, customer, "1", key=name)


# --- values ------------------------------------------------------------------------------


@case("value.decimal")
def _(account: Account) -> None:
    meter, customer = account.meter(), account.customer()
    account.send(meter, customer, "0.1")
    account.send(meter, customer, "0.2")
    account.settled(0.3, meter, customer)


@case("value.negative")
def _(account: Account) -> None:
    meter, customer = account.meter(), account.customer()
    account.send(meter, customer, "5")
    account.send(meter, customer, "-2")
    account.settled(3.0, meter, customer)


@case("value.digits")
def _(account: Account) -> None:
    meter, customer = account.meter(), account.customer()
    account.send(meter, customer, "123456789.012345")
    account.refused(lambda: account.send(meter, customer, "123456789.0123456"))


@case("value.exponent")
def _(account: Account) -> None:
    meter, customer = account.meter(), account.customer()
    account.refused(lambda: account.send(meter, customer, "1e3"))


# --- time --------------------------------------------------------------------------------


@case("timestamp.past")
def _(account: Account) -> None:
    meter, customer, now = account.meter(), account.customer(), account.now()
    account.send(meter, customer, "1", timestamp=now - 35 * DAY + 120)
    error = account.refused(
        lambda: account.send(meter, customer, "1", timestamp=now - 35 * DAY - 120)
    )
    assert "Expected a timestamp greater than or equal to" in error.user_message


@case("timestamp.future")
def _(account: Account) -> None:
    meter, customer, now = account.meter(), account.customer(), account.now()
    account.send(meter, customer, "1", timestamp=now + 240)
    account.refused(lambda: account.send(meter, customer, "1", timestamp=now + 420))


@case("timestamp.default")
def _(account: Account) -> None:
    before = account.now()
    event = account.send(account.meter(), account.customer(), "1")
    assert before - 5 <= event.timestamp <= account.now() + 5


# --- names -------------------------------------------------------------------------------


@case("meter.unknown")
def _(account: Account) -> None:
    meter, customer = account.meter(), account.customer()
    error = account.refused(lambda: account.send(meter, customer, "1", event_name="no_such_name"))
    assert "No active meter found for event name" in error.user_message
    assert error.error.code is None


@case("meter.archived")
def _(account: Account) -> None:
    meter, customer = account.meter(), account.customer()
    account.client.v1.billing.meters.deactivate(meter.id)
    account.refused(lambda: account.send(meter, customer, "1"))
    account.client.v1.billing.meters.reactivate(meter.id)
    account.send(meter, customer, "1")


@case("meter.one_name")
def _(account: Account) -> None:
    meter = account.meter()
    account.refused(lambda: account.meter(event_name=meter.event_name))


@case("customer.unknown")
def _(account: Account) -> None:
    meter = account.meter()
    error = account.refused(lambda: account.send(meter, "cus_0nobody0000000", "1"))
    assert "No such customer" in error.user_message


# --- sums --------------------------------------------------------------------------------


@case("formula.sum")
def _(account: Account) -> None:
    meter, customer = account.meter(), account.customer()
    for value in ("3", "4"):
        account.send(meter, customer, value)
    account.settled(7.0, meter, customer)


@case("formula.count")
def _(account: Account) -> None:
    meter, customer = account.meter("count"), account.customer()
    for value in ("3", "4", "0"):
        account.send(meter, customer, value)
    account.settled(3.0, meter, customer)


@case("formula.last")
def _(account: Account) -> None:
    meter, customer, now = account.meter("last"), account.customer(), account.now()
    account.send(meter, customer, "30", timestamp=now - 60)
    account.send(meter, customer, "20", timestamp=now - 600)
    account.settled(30.0, meter, customer)


@case("window.overwrite")
def _(account: Account) -> None:
    meter, customer = account.meter(event_time_window="day"), account.customer()
    day = account.now() // DAY * DAY - 2 * DAY
    account.send(meter, customer, "9", timestamp=day + 2 * HOUR)
    account.send(meter, customer, "5", timestamp=day + HOUR)
    account.send(meter, customer, "2", timestamp=day + DAY)
    account.settled(7.0, meter, customer)


@case("summary.half_open")
def _(account: Account) -> None:
    meter, customer = account.meter(), account.customer()
    minute = account.now() // 60 * 60 - HOUR
    account.send(meter, customer, "1", timestamp=minute)
    account.send(meter, customer, "10", timestamp=minute + 60)
    account.settled(11.0, meter, customer)
    assert account.summaries(meter, customer, minute, minute + 60)[0].aggregated_value == 1.0


@case("summary.alignment")
def _(account: Account) -> None:
    meter, customer = account.meter(), account.customer()
    day = account.now() // DAY * DAY
    for start, window in ((day - DAY + 1, None), (day - DAY + 60, "hour"), (day - HOUR, "day")):
        fields = {"value_grouping_window": window} if window else {}
        account.refused(
            lambda start=start, fields=fields: account.summaries(
                meter, customer, start, day, **fields
            )
        )


@case("summary.empty_range")
def _(account: Account) -> None:
    meter, customer = account.meter(), account.customer()
    minute = account.now() // 60 * 60
    found = account.summaries(meter, customer, minute - HOUR, minute)
    assert [row.aggregated_value for row in found] == [0.0]


@case("summary.empty_windows")
def _(account: Account) -> None:
    meter, customer = account.meter(), account.customer()
    day = account.now() // DAY * DAY
    for back in (4, 2):
        account.send(meter, customer, "1", timestamp=day - back * DAY + 60)
    account.settled(2.0, meter, customer)
    found = account.summaries(meter, customer, day - 6 * DAY, day, value_grouping_window="day")
    assert [row.start_time for row in found] == [day - 2 * DAY, day - 4 * DAY]


@case("summary.unknown_customer")
def _(account: Account) -> None:
    meter, minute = account.meter(), account.now() // 60 * 60
    account.refused(lambda: account.summaries(meter, "cus_0nobody0000000", minute - 60, minute))


@case("cancel.recent")
def _(account: Account) -> None:
    meter, customer, name = account.meter(), account.customer(), uuid.uuid4().hex
    account.send(meter, customer, "4", identifier=name)
    account.send(meter, customer, "8")
    adjustments = account.client.v1.billing.meter_event_adjustments
    cancel = {"type": "cancel", "cancel": {"identifier": name}}
    adjustments.create({"event_name": meter.event_name, **cancel})
    account.settled(8.0, meter, customer)


@case("cancel.unknown")
def _(account: Account) -> None:
    meter = account.meter()
    cancel = {"type": "cancel", "cancel": {"identifier": uuid.uuid4().hex}}
    adjustments = account.client.v1.billing.meter_event_adjustments
    account.refused(lambda: adjustments.create({"event_name": meter.event_name, **cancel}))


# --- requests ----------------------------------------------------------------------------


@case("parameter.unknown")
def _(account: Account) -> None:
    error = account.refused(lambda: account.client.v1.customers.create({"emial": "x"}))
    assert (error.error.code, error.error.param) == ("parameter_unknown", "emial")


@case("concurrency.pair")
def _(account: Account) -> None:
    meter, customer = account.meter(), account.customer()
    account.sandbox.fault("lock_timeout")
    error = account.refused(lambda: account.send(meter, customer, "1"), status=429)
    assert error.error.code == "lock_timeout"
    assert "stripe-rate-limited-reason" not in error.headers
