"""Subscriptions over time: periods, drafts, grace, finalisation, previews, test clocks."""

from datetime import UTC, datetime

import pytest
import stripe

from tests.sandbox.builders import make_customer, make_meter, make_price, send

DAY = 86_400
HOUR = 3_600


def at(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp())


@pytest.fixture
def start(sandbox) -> int:
    """A frozen moment on 31 January 2027, so that months are cut short."""
    moment = at(2027, 1, 31, 10)
    sandbox.set_clock(moment, freeze=True)
    return moment


def subscribe(client, customer, *prices, **fields):
    items = [{"price": price} for price in prices]
    return client.v1.subscriptions.create({"customer": customer, "items": items, **fields})


def item_period(client, subscription) -> tuple[int, int]:
    item = client.v1.subscriptions.retrieve(subscription)["items"].data[0]
    return item.current_period_start, item.current_period_end


def invoices(client, subscription):
    return client.v1.invoices.list({"subscription": subscription, "limit": 100}).data


def test_periods_follow_the_anchor_day_and_come_back_after_short_months(sandbox, client, start):
    meter = make_meter(client)
    sub = subscribe(client, make_customer(client), make_price(client, meter.id).id)
    ends = []
    for _ in range(4):
        ends.append(item_period(client, sub.id)[1])
        sandbox.set_clock(ends[-1])
    assert ends == [at(2027, month, day, 10) for month, day in ((2, 28), (3, 31), (4, 30), (5, 31))]


def test_the_draft_takes_usage_of_its_period_until_the_grace_ends(sandbox, client, start):
    meter, customer = make_meter(client), make_customer(client)
    sub = subscribe(client, customer, make_price(client, meter.id, unit_amount=7).id)
    assert invoices(client, sub.id) == []
    send(client, customer, "10")
    end = item_period(client, sub.id)[1]
    sandbox.set_clock(end)
    draft = invoices(client, sub.id)[0]
    assert (draft.status, draft.total, draft.automatically_finalizes_at) == (
        "draft",
        70,
        end + HOUR,
    )
    send(client, customer, "3", timestamp=end - 1)
    send(client, customer, "100", timestamp=end)
    assert client.v1.invoices.retrieve(draft.id).total == 91
    sandbox.advance(HOUR)
    final = client.v1.invoices.retrieve(draft.id)
    assert (final.status, final.total, final.amount_paid) == ("paid", 91, 91)
    line = final.lines.data[0]
    assert (line.quantity, line.quantity_decimal, line.amount) == (13, 13, 91)
    assert (line.period.start, line.period.end) == (start, end)
    send(client, customer, "50", timestamp=end - 2)
    after = client.v1.invoices.retrieve(draft.id)
    assert (after.total, after.lines.data[0].quantity) == (91, 13)


def test_usage_after_finalisation_is_on_no_invoice_but_stays_in_the_sums(sandbox, client, start):
    meter, customer = make_meter(client), make_customer(client)
    sub = subscribe(client, customer, make_price(client, meter.id, unit_amount=1).id)
    end = item_period(client, sub.id)[1]
    sandbox.set_clock(end + HOUR)
    send(client, customer, "5", timestamp=end - 60)
    sandbox.set_clock(item_period(client, sub.id)[1] + HOUR)
    assert [invoice.total for invoice in invoices(client, sub.id)] == [0, 0]
    assert sandbox.totals()[0]["sum"] == "5"


def test_a_negative_period_bills_zero_and_carries_nothing(sandbox, client, start):
    meter, customer = make_meter(client), make_customer(client)
    sub = subscribe(client, customer, make_price(client, meter.id, unit_amount=10).id)
    send(client, customer, "-4")
    end = item_period(client, sub.id)[1]
    sandbox.set_clock(end)
    send(client, customer, "3", timestamp=end)
    sandbox.set_clock(item_period(client, sub.id)[1] + HOUR)
    assert [invoice.total for invoice in invoices(client, sub.id)] == [30, 0]


def test_classic_mode_has_a_zero_metered_line_on_the_first_invoice(client, start):
    meter = make_meter(client)
    price = make_price(client, meter.id).id
    classic = {"billing_mode": {"type": "classic"}}
    sub = subscribe(client, make_customer(client), price, **classic)
    first = invoices(client, sub.id)[0]
    assert (first.status, first.billing_reason, first.total) == ("paid", "subscription_create", 0)
    assert first.lines.data[0].quantity == 0


def test_a_licensed_item_is_billed_ahead_and_the_first_invoice_is_final_at_once(
    sandbox, client, start
):
    price = make_price(client, unit_amount=900)
    sub = subscribe(client, make_customer(client), price.id)
    first = client.v1.invoices.retrieve(sub.latest_invoice)
    assert (first.status, first.total, first.lines.data[0].period.start) == ("paid", 900, start)
    sandbox.set_clock(item_period(client, sub.id)[1] + HOUR)
    assert [invoice.total for invoice in invoices(client, sub.id)] == [900, 900]


@pytest.mark.parametrize(("mode", "billed"), [("flexible", 40 + 200), ("classic", 200)])
def test_a_price_change_bills_the_old_usage_in_flexible_mode_only(
    sandbox, client, start, mode, billed
):
    meter, customer = make_meter(client), make_customer(client)
    cheap, dear = (make_price(client, meter.id, unit_amount=n).id for n in (10, 100))
    sub = subscribe(client, customer, cheap, billing_mode={"type": mode})
    send(client, customer, "4")
    sandbox.advance(DAY)
    item = sub["items"].data[0].id
    client.v1.subscriptions.update(sub.id, {"items": [{"id": item, "price": dear}]})
    send(client, customer, "2")
    sandbox.set_clock(item_period(client, sub.id)[1] + HOUR)
    assert invoices(client, sub.id)[0].total == billed


def test_a_trial_bills_nothing_and_ends_on_time_or_at_once(sandbox, client, start):
    meter, customer = make_meter(client), make_customer(client)
    price = make_price(client, meter.id, unit_amount=10).id
    trial = subscribe(client, customer, price, trial_period_days=7)
    assert (trial.status, item_period(client, trial.id)) == (
        "trialing",
        (start, start + 7 * DAY),
    )
    send(client, customer, "100")
    sandbox.advance(7 * DAY)
    assert client.v1.subscriptions.retrieve(trial.id).status == "active"
    send(client, customer, "2")
    sandbox.set_clock(item_period(client, trial.id)[1] + HOUR)
    assert sum(invoice.total for invoice in invoices(client, trial.id)) == 20
    short = subscribe(client, make_customer(client), price, trial_period_days=7)
    send(client, short.customer, "100")
    sandbox.advance(HOUR)
    ended = client.v1.subscriptions.update(short.id, {"trial_end": "now"})
    assert (ended.status, item_period(client, short.id)[0]) == ("active", int(sandbox.now()))
    sandbox.set_clock(item_period(client, short.id)[1] + HOUR)
    assert sum(invoice.total for invoice in invoices(client, short.id)) == 0


def test_a_reset_anchor_bills_the_usage_so_far_and_begins_anew(sandbox, client, start):
    meter, customer = make_meter(client), make_customer(client)
    sub = subscribe(client, customer, make_price(client, meter.id, unit_amount=10).id)
    send(client, customer, "3")
    sandbox.advance(5 * DAY)
    client.v1.subscriptions.update(sub.id, {"billing_cycle_anchor": "now"})
    send(client, customer, "4")
    first = invoices(client, sub.id)[0]
    assert (first.billing_reason, first.total) == ("subscription_update", 30)
    assert item_period(client, sub.id) == (start + 5 * DAY, at(2027, 3, 5, 10))
    sandbox.set_clock(at(2027, 3, 5, 11))
    assert [invoice.total for invoice in invoices(client, sub.id)] == [40, 30]


def test_a_classic_subscription_migrates_to_flexible_mode_only(client, start):
    price = make_price(client, make_meter(client).id).id
    sub = subscribe(client, make_customer(client), price, billing_mode={"type": "classic"})
    moved = client.v1.subscriptions.migrate(sub.id, {"billing_mode": {"type": "flexible"}})
    assert moved.billing_mode.type == "flexible"


def test_a_paused_subscription_keeps_drafts_or_voids_invoices(sandbox, client, start):
    price = make_price(client, unit_amount=900).id
    kept, voided = (subscribe(client, make_customer(client), price) for _ in range(2))
    for sub, behavior in ((kept, "keep_as_draft"), (voided, "void")):
        client.v1.subscriptions.update(sub.id, {"pause_collection": {"behavior": behavior}})
    sandbox.set_clock(item_period(client, kept.id)[1] + HOUR)
    assert invoices(client, kept.id)[0].status == "draft"
    assert invoices(client, voided.id)[0].status == "void"


def test_cancelling_at_period_end_bills_the_last_usage(sandbox, client, start):
    meter, customer = make_meter(client), make_customer(client)
    sub = subscribe(client, customer, make_price(client, meter.id, unit_amount=10).id)
    client.v1.subscriptions.update(sub.id, {"cancel_at_period_end": True})
    send(client, customer, "4")
    sandbox.set_clock(item_period(client, sub.id)[1] + HOUR)
    assert client.v1.subscriptions.retrieve(sub.id).status == "canceled"
    assert [invoice.total for invoice in invoices(client, sub.id)] == [40]
    sandbox.advance(90 * DAY)
    assert len(invoices(client, sub.id)) == 1


def test_a_failed_payment_leaves_the_invoice_open_until_it_is_paid_or_voided(
    sandbox, client, start
):
    sandbox.configure(invoice_payment="fail")
    price = make_price(client, unit_amount=900)
    first, second = (subscribe(client, make_customer(client), price.id) for _ in range(2))
    assert client.v1.invoices.retrieve(first.latest_invoice).status == "open"
    assert client.v1.invoices.pay(first.latest_invoice).status == "paid"
    assert client.v1.invoices.void_invoice(second.latest_invoice).status == "void"
    with pytest.raises(stripe.InvalidRequestError, match="open invoice"):
        client.v1.invoices.pay(second.latest_invoice)
    types = [event.type for event in client.v1.events.list({"limit": 100}).data]
    assert types.count("invoice.payment_failed") == 2
    assert types.count("invoice.voided") == 1


def test_a_test_clock_moves_its_own_customers_and_nobody_else(client, start):
    clock = client.v1.test_helpers.test_clocks.create({"frozen_time": at(2026, 1, 31)})
    meter = make_meter(client)
    price = make_price(client, meter.id, unit_amount=1).id
    clocked = make_customer(client, test_clock=clock.id)
    sub = subscribe(client, clocked, price)
    other = subscribe(client, make_customer(client), price)
    send(client, clocked, "6", timestamp=at(2026, 1, 31, 5) - 5 * HOUR)
    advancing = client.v1.test_helpers.test_clocks.advance(
        clock.id, {"frozen_time": at(2026, 4, 1)}
    )
    assert advancing.status == "advancing"
    assert client.v1.test_helpers.test_clocks.retrieve(clock.id).status == "ready"
    assert [invoice.total for invoice in invoices(client, sub.id)] == [0, 6]
    assert item_period(client, sub.id) == (at(2026, 3, 31), at(2026, 4, 30))
    assert invoices(client, other.id) == []
    with pytest.raises(stripe.InvalidRequestError, match="after the current"):
        client.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": at(2026, 3, 1)})


TIERS = [
    {"up_to": 5, "unit_amount": 700},
    {"up_to": 10, "unit_amount": 650},
    {"up_to": "inf", "unit_amount": 600},
]
FLAT_TIERS = [
    {"up_to": 5, "unit_amount": 500, "flat_amount": 1000},
    {"up_to": 10, "unit_amount": 400, "flat_amount": 2000},
    {"up_to": 15, "unit_amount": 300, "flat_amount": 3000},
    {"up_to": 20, "unit_amount": 200, "flat_amount": 4000},
    {"up_to": "inf", "unit_amount": 100, "flat_amount": 5000},
]


@pytest.mark.parametrize(
    ("tiers", "mode", "quantity", "expected"),
    [
        (TIERS, "volume", 5, 3500),
        (TIERS, "volume", 6, 3900),
        (TIERS, "volume", 20, 12000),
        (TIERS, "volume", 25, 15000),
        (TIERS, "graduated", 1, 700),
        (TIERS, "graduated", 5, 3500),
        (TIERS, "graduated", 6, 4150),
        (TIERS, "graduated", 20, 12750),
        (TIERS, "graduated", 25, 15750),
        (FLAT_TIERS, "volume", 12, 6600),
        (FLAT_TIERS, "graduated", 12, 11100),
        (FLAT_TIERS, "graduated", 5, 3500),
        (FLAT_TIERS, "volume", 5, 3500),
        (FLAT_TIERS, "volume", 0, 1000),
        (FLAT_TIERS, "graduated", 0, 1000),
    ],
)
def test_tiers_cost_what_stripes_documentation_says(client, tiers, mode, quantity, expected):
    price = make_price(client, tiers=tiers, tiers_mode=mode, billing_scheme="tiered")
    preview = client.v1.invoices.create_preview(
        {
            "customer": make_customer(client),
            "subscription_details": {"items": [{"price": price.id, "quantity": quantity}]},
        }
    )
    assert preview.total == expected


@pytest.mark.parametrize(
    ("fields", "quantity", "expected"),
    [
        ({"unit_amount": 1000, "transform_quantity": {"divide_by": 60, "round": "up"}}, 150, 3000),
        (
            {"unit_amount": 1000, "transform_quantity": {"divide_by": 60, "round": "down"}},
            150,
            2000,
        ),
        ({"unit_amount_decimal": "0.05"}, 30, 2),
    ],
)
def test_packages_and_decimal_amounts_round_once(client, fields, quantity, expected):
    price = make_price(client, **fields)
    preview = client.v1.invoices.create_preview(
        {
            "customer": make_customer(client),
            "subscription_details": {"items": [{"price": price.id, "quantity": quantity}]},
        }
    )
    assert preview.total == expected


def test_a_preview_shows_the_usage_so_far_and_stores_nothing(client, start):
    meter, customer = make_meter(client), make_customer(client)
    sub = subscribe(client, customer, make_price(client, meter.id, unit_amount=10).id)
    send(client, customer, "2.5")
    preview = client.v1.invoices.create_preview({"customer": customer, "subscription": sub.id})
    assert (preview.total, preview.lines.data[0].quantity_decimal) == (25, 2.5)
    assert invoices(client, sub.id) == []


def test_currency_options_price_a_subscription_in_another_currency(client, start):
    price = make_price(client, unit_amount=900, currency_options={"eur": {"unit_amount": 800}})
    sub = subscribe(client, make_customer(client), price.id, currency="eur")
    invoice = client.v1.invoices.retrieve(sub.latest_invoice)
    assert (invoice.currency, invoice.total) == ("eur", 800)
    with pytest.raises(stripe.InvalidRequestError, match="only supports `usd`"):
        subscribe(client, make_customer(client), price.id, currency="jpy")


def test_backdating_bills_usage_recorded_before_the_subscription(sandbox, client, start):
    meter, customer = make_meter(client), make_customer(client)
    send(client, customer, "4", timestamp=start - 2 * DAY)
    price = make_price(client, meter.id, unit_amount=10).id
    sub = subscribe(client, customer, price, backdate_start_date=start - 3 * DAY)
    sandbox.set_clock(item_period(client, sub.id)[1] + HOUR)
    assert invoices(client, sub.id)[0].total == 40


def test_tiers_and_currency_options_come_only_when_expanded(client):
    price = make_price(client, tiers=TIERS, tiers_mode="volume", billing_scheme="tiered")
    assert "tiers" not in price.to_dict()
    shown = client.v1.prices.retrieve(price.id, {"expand": ["tiers", "product"]})
    assert [tier.up_to for tier in shown.tiers] == [5, 10, None]
    assert shown.product.name == "Usage"
    listed = client.v1.prices.list({"expand": ["data.tiers"]})
    assert len(listed.data[0].tiers) == 3


def test_legacy_usage_records_add_and_set_and_are_billed(sandbox, connect, start):
    legacy = connect(stripe_version="2025-02-24.acacia")
    customer = make_customer(legacy)
    recurring = {"interval": "month", "usage_type": "metered"}
    price = make_price(legacy, unit_amount=10, recurring=recurring)
    sub = subscribe(legacy, customer, price.id)
    assert sub.billing_mode.type == "classic"
    item = sub["items"].data[0].id
    sandbox.advance(HOUR)

    def record(quantity, action):
        return legacy.raw_request(
            "post",
            f"/v1/subscription_items/{item}/usage_records",
            quantity=quantity,
            timestamp=start + 60,
            action=action,
            stripe_version="2025-02-24.acacia",
        )

    record(5, "increment")
    record(3, "set")
    record(4, "increment")
    found = legacy.raw_request(
        "get",
        f"/v1/subscription_items/{item}/usage_record_summaries",
        stripe_version="2025-02-24.acacia",
    )
    assert [(row["total_usage"], row["invoice"]) for row in found.data["data"]] == [(7, None)]
    sandbox.set_clock(item_period(legacy, sub.id)[1] + HOUR)
    assert invoices(legacy, sub.id)[0].total == 70


def test_usage_records_are_gone_on_current_versions_and_refused_on_meters(connect, client):
    meter = make_meter(client)
    sub = subscribe(client, make_customer(client), make_price(client, meter.id).id)
    path = f"/v1/subscription_items/{sub['items'].data[0].id}/usage_records"
    with pytest.raises(stripe.InvalidRequestError, match="Unrecognized request URL"):
        client.raw_request("post", path, quantity=1)
    with pytest.raises(stripe.InvalidRequestError, match="not on the legacy metered"):
        client.raw_request("post", path, quantity=1, stripe_version="2025-02-24.acacia")
