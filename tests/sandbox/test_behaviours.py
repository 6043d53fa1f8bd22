"""One case per rule of the behaviour table, for the sandbox and for a real account.

    STRIPE_TEST_SECRET_KEY=sk_test_… pytest tests/sandbox/test_behaviours.py -m live_stripe

Everything a live run makes is test-mode data with names of its own; meters are
deactivated and subscriptions cancelled afterwards.
"""

import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
import stripe

from billing.stripe_sandbox.behaviours import RULES
from tests.sandbox.conftest import VERSION
from tests.support import network

DAY = 86_400
HOUR = 3_600
SETTLE_SECONDS_MAX = 300


@dataclass
class Account:
    """What a case works with: the SDK, the time, and whether this is real Stripe."""

    client: stripe.StripeClient
    sandbox: Any = None
    meters: list[str] = field(default_factory=list)
    subscriptions: list[str] = field(default_factory=list)

    def now(self) -> int:
        return int(self.sandbox.now() if self.sandbox else time.time())

    def meter(self, formula: str = "sum", **fields: Any) -> Any:
        name = f"behaviour_{uuid.uuid4().hex[:16]}"
        params = {"display_name": name, "event_name": name} | fields
        meter = self.client.v1.billing.meters.create(
            {**params, "default_aggregation": {"formula": formula}}
        )
        self.meters.append(meter.id)
        return meter

    def customer(self, **fields: Any) -> str:
        return self.client.v1.customers.create(fields).id

    def price(self, **fields: Any) -> str:
        params = {"currency": "usd", "product_data": {"name": "Behaviour"}}
        params["recurring"] = {"interval": "month"}
        return self.client.v1.prices.create({**params, **fields}).id

    def metered_price(self, meter: Any, **fields: Any) -> str:
        recurring = {"interval": "month", "usage_type": "metered", "meter": meter.id}
        return self.price(recurring=recurring, **{"unit_amount": 10, **fields})

    def subscribe(self, customer: str, price: str, **fields: Any) -> Any:
        params = {"customer": customer, "items": [{"price": price}], **fields}
        params.setdefault("collection_method", "send_invoice")
        params.setdefault("days_until_due", 30)
        subscription = self.client.v1.subscriptions.create(params)
        self.subscriptions.append(subscription.id)
        return subscription

    def send(self, meter: Any, customer: str, value: str, **fields: Any) -> Any:
        key = fields.pop("key", None)
        payload = {"stripe_customer_id": customer, "value": value}
        params = {"event_name": meter.event_name, "payload": payload} | fields
        return self.client.v1.billing.meter_events.create(
            params, {"idempotency_key": key} if key else {}
        )

    def summaries(self, meter: Any, customer: str, start: int, end: int, **fields: Any) -> Any:
        params = {"customer": customer, "start_time": start, "end_time": end, **fields}
        return self.client.v1.billing.meters.event_summaries.list(meter.id, params).data

    def total(self, meter: Any, customer: str) -> float:
        end = self.now() // 60 * 60 + 600
        return self.summaries(meter, customer, end - 36 * DAY // 60 * 60, end)[0].aggregated_value

    def settled(self, expected: float, meter: Any, customer: str) -> None:
        """Asserts a sum; real Stripe gets time, since its summaries trail."""
        deadline = time.monotonic() + (0 if self.sandbox else SETTLE_SECONDS_MAX)
        while (found := self.total(meter, customer)) != expected:
            assert time.monotonic() < deadline, f"{found} is not {expected}"
            time.sleep(5)

    def preview(self, price: str, quantity: int) -> Any:
        items = [{"price": price, "quantity": quantity}]
        return self.client.v1.invoices.create_preview(
            {"customer": self.customer(), "subscription_details": {"items": items}}
        )

    def refused(self, call: Callable[[], Any], status: int = 400) -> stripe.StripeError:
        with pytest.raises(stripe.StripeError) as caught:
            call()
        assert caught.value.http_status == status
        return caught.value


Case = Callable[[Account], None]
CASES: dict[str, Case] = {}


def case(identifier: str) -> Callable[[Case], Case]:
    def register(function: Case) -> Case:
        CASES[identifier] = function
        return function

    return register


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


# --- invoices ----------------------------------------------------------------------------


@case("invoice.flexible_first")
def _(account: Account) -> None:
    price = account.metered_price(account.meter())
    metered_lines = {}
    for mode in ("flexible", "classic"):
        sub = account.subscribe(account.customer(), price, billing_mode={"type": mode})
        found = account.client.v1.invoices.list({"subscription": sub.id}).data
        metered_lines[mode] = sum(len(invoice.lines.data) for invoice in found)
    assert metered_lines == {"flexible": 0, "classic": 1}


@case("invoice.grace")
def _(account: Account) -> None:
    sub, meter, customer, end = _over_a_period(account, "3")
    account.send(meter, customer, "2", timestamp=end - 1)
    account.sandbox.advance(HOUR)
    assert _totals(account, sub) == [50]


@case("invoice.late")
def _(account: Account) -> None:
    sub, meter, customer, end = _over_a_period(account, "3")
    account.sandbox.advance(HOUR)
    account.send(meter, customer, "2", timestamp=end - 1)
    assert _totals(account, sub) == [30]
    account.settled(5.0, meter, customer)


@case("invoice.negative")
def _(account: Account) -> None:
    sub, *_ = _over_a_period(account, "-3")
    account.sandbox.advance(HOUR)
    assert _totals(account, sub) == [0]


def _over_a_period(account: Account, value: str) -> tuple[str, Any, str, int]:
    """Returns (subscription, meter, customer, end) right after its first period ended."""
    account.sandbox.set_clock(account.now(), freeze=True)
    meter, customer = account.meter(), account.customer()
    sub = account.subscribe(customer, account.metered_price(meter))
    account.send(meter, customer, value)
    end = sub["items"].data[0].current_period_end
    account.sandbox.set_clock(end)
    return sub.id, meter, customer, end


def _totals(account: Account, subscription: str) -> list[int]:
    found = account.client.v1.invoices.list({"subscription": subscription}).data
    return [invoice.total for invoice in found]


@case("invoice.zero_flat")
def _(account: Account) -> None:
    tiers = [
        {"up_to": 5, "unit_amount": 500, "flat_amount": 1000},
        {"up_to": "inf", "unit_amount": 400, "flat_amount": 2000},
    ]
    for mode in ("graduated", "volume"):
        price = account.price(billing_scheme="tiered", tiers=tiers, tiers_mode=mode)
        assert account.preview(price, 0).total == 1000


@case("invoice.transform")
def _(account: Account) -> None:
    rule = {"divide_by": 60, "round": "up"}
    price = account.price(unit_amount=1000, transform_quantity=rule)
    assert account.preview(price, 150).total == 3000


@case("invoice.rounding")
def _(account: Account) -> None:
    assert account.preview(account.price(unit_amount_decimal="0.05"), 30).total == 2


@case("invoice.one_line")
def _(account: Account) -> None:
    tiers = [{"up_to": 5, "unit_amount": 700}, {"up_to": "inf", "unit_amount": 600}]
    price = account.price(billing_scheme="tiered", tiers=tiers, tiers_mode="graduated")
    preview = account.preview(price, 12)
    assert preview.total == 5 * 700 + 7 * 600
    assert len(preview.lines.data) == 1


@case("anchor.short_months")
def _(account: Account) -> None:
    def moment(month: int, day: int) -> int:
        return int(datetime(2026, month, day, tzinfo=UTC).timestamp())

    clocks = account.client.v1.test_helpers.test_clocks
    clock = clocks.create({"frozen_time": moment(1, 31)})
    customer = account.customer(test_clock=clock.id)
    sub = account.subscribe(customer, account.metered_price(account.meter()))
    ends = []
    for _ in range(2):
        item = account.client.v1.subscriptions.retrieve(sub.id)["items"].data[0]
        ends.append(item.current_period_end)
        clocks.advance(clock.id, {"frozen_time": ends[-1] + 60})
        _wait_until_ready(account, clock.id)
    assert ends == [moment(2, 28), moment(3, 31)]
    clocks.delete(clock.id)
    account.subscriptions.remove(sub.id)


def _wait_until_ready(account: Account, clock: str) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while account.client.v1.test_helpers.test_clocks.retrieve(clock).status != "ready":
        assert time.monotonic() < deadline, "the test clock does not get ready"
        time.sleep(2)


# --- the table itself --------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_the_sandbox_follows_the_rule(rule, sandbox, client):
    CASES[rule.id](Account(client, sandbox))


@pytest.fixture
def real_account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """A real test account; this test alone may leave the machine."""
    key = os.environ["STRIPEMETER_LIVE_TEST_KEY"]
    assert "_test_" in key, "never run this with a live key"
    monkeypatch.setattr(socket.socket, "connect", network._connect)
    client = stripe.StripeClient(key, stripe_version=VERSION, max_network_retries=2)
    account = Account(client)
    yield account
    for subscription in account.subscriptions:
        client.v1.subscriptions.cancel(subscription)
    for meter in account.meters:
        if client.v1.billing.meters.retrieve(meter).status == "active":
            client.v1.billing.meters.deactivate(meter)


@pytest.mark.live_stripe
@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.live], ids=lambda rule: rule.id)
def test_real_stripe_follows_the_rule(rule, real_account):
    CASES[rule.id](real_account)


def test_every_rule_has_a_case_and_every_case_a_rule():
    assert sorted(CASES) == sorted(rule.id for rule in RULES)
    assert len({rule.id for rule in RULES}) == len(RULES)
