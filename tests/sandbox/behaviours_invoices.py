"""Cases of the behaviour table: invoices, lines, rounding, test clocks."""

import time
from datetime import UTC, datetime
from typing import Any

from tests.sandbox.behaviour_account import HOUR, SETTLE_SECONDS_MAX, Account, case

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
