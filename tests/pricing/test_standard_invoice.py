"""The invoice by Stripe's rules: order of steps, sharing without loss, credits, tax."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.pricing import (
    Coupon,
    Credit,
    CreditTiming,
    FixedFee,
    Invoice,
    InvoiceInput,
    InvoiceSimulator,
    LineKind,
    MinimumSpend,
    Model,
    Price,
    RuleSet,
    TaxBehavior,
    TaxRounding,
    UsageItem,
    compute_invoice,
)

START, END = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 2, 1, tzinfo=UTC)


def flat(unit: object, **more: Any) -> dict[str, Any]:
    return {"model": "flat", "currency": "USD", "unitPrice": unit, **more}


def simulate(*amounts: object, **more: Any) -> Invoice:
    items = [
        {"metric": f"m{index}", "quantity": 1, "priceConfig": flat(amount)}
        for index, amount in enumerate(amounts)
    ]
    return InvoiceSimulator("stripe").simulate(
        {
            "customerId": "c",
            "periodStart": "2025-01-01",
            "periodEnd": "2025-02-01",
            "usageItems": items,
            **more,
        }
    )


def test_yen_and_dinar_use_their_own_minor_units() -> None:
    for currency, total in (("JPY", "101"), ("KWD", "100.500"), ("ISK", "100.50")):
        invoice = InvoiceSimulator("stripe").simulate(
            customerId="c",
            periodStart="2025-01-01",
            periodEnd="2025-02-01",
            usageItems=[
                {"metric": "m", "quantity": 3, "priceConfig": {**flat(33.5), "currency": currency}}
            ],
        )
        assert str(invoice.total) == total


def test_minimum_spend_bills_the_shortfall_and_no_coupon_touches_it() -> None:
    invoice = simulate(30, minimumSpend=100, coupons=[{"percentOff": 50}])
    assert [(line.kind, line.subtotal) for line in invoice.lines] == [
        (LineKind.USAGE, 30),
        (LineKind.TRUE_UP, 70),
    ]
    assert (invoice.subtotal, invoice.discounts, invoice.total) == (100, 15, 85)


def test_reaching_the_minimum_spend_adds_no_line() -> None:
    assert len(simulate(100, minimumSpend=100).lines) == 1


def test_coupons_apply_in_order_each_on_the_rest() -> None:
    half, ten = {"percentOff": 50, "name": "half"}, {"amountOff": 10, "name": "ten"}
    assert simulate(100, coupons=[half, ten]).total == 40
    assert simulate(100, coupons=[ten, half]).total == 45
    assert simulate(5, coupons=[ten]).total == 0


def test_a_coupon_may_reach_one_metric_only() -> None:
    invoice = simulate(10, 20, coupons=[{"percentOff": 100, "metrics": ["m1"]}])
    assert invoice.total == 10
    assert [line.discount_minor for line in invoice.lines] == [0, 2000]


def test_a_commitment_is_drawn_down_before_credits_and_its_rest_is_shown() -> None:
    invoice = simulate(
        100,
        commitments=[{"amount": 80, "applied": 20}],
        credits=[{"amount": 50, "reason": "promo"}],
    )
    assert [(t.name, t.used_minor, t.remaining_minor) for t in invoice.taken] == [
        ("commitment", 6000, 0),
        ("promo", 4000, 1000),
    ]
    assert (invoice.credits, invoice.total) == (100, 0)


def test_credits_go_by_priority_expiry_category_and_start() -> None:
    listed = [
        {"amount": 1, "reason": "late", "expiresAt": "2026-01-01"},
        {"amount": 1, "reason": "never"},
        {"amount": 1, "reason": "first", "priority": 1},
        {"amount": 1, "reason": "soon paid", "expiresAt": "2025-03-01"},
        {"amount": 1, "reason": "soon promo", "expiresAt": "2025-03-01", "category": "promotional"},
        {"amount": 1, "reason": "expired", "expiresAt": "2025-01-31T23:59:59Z"},
        {"amount": 1, "reason": "not yet", "effectiveAt": "2025-02-01"},
    ]
    invoice = simulate(100, credits=listed)
    assert [taken.name for taken in invoice.taken] == [
        "first",
        "soon promo",
        "soon paid",
        "late",
        "never",
    ]


def test_a_credit_for_one_metric_pays_nothing_else() -> None:
    invoice = simulate(10, 20, credits=[{"amount": 50, "metrics": ["m0"]}])
    assert invoice.total == 20
    assert invoice.taken[0].remaining_minor == 4000


def test_balance_pays_the_taxed_total() -> None:
    invoice = simulate(100, taxRate=10, credits=[{"amount": 30, "timing": "after_tax"}])
    assert (invoice.total, invoice.tax, invoice.amount_due) == (110, 10, 80)


def test_exclusive_tax_is_on_top_and_inclusive_inside() -> None:
    on_top = simulate(100, taxRate=19)
    inside = simulate(119, taxRate=19, taxBehavior="inclusive")
    assert (on_top.tax, on_top.total) == (19, 119)
    assert (inside.tax, inside.total, inside.tax_included_minor) == (19, 119, 1900)


def test_tax_is_on_what_discounts_and_credits_left() -> None:
    invoice = simulate(100, taxRate=10, coupons=[{"percentOff": 20}], credits=[{"amount": 30}])
    assert (invoice.taxable_minor, invoice.tax) == (5000, 5)


def test_tax_rounds_per_line_or_per_invoice() -> None:
    by_line = simulate(0.05, 0.05, taxRate=10)
    by_invoice = simulate(0.05, 0.05, taxRate=10, taxRounding="invoice")
    assert (by_line.tax, by_invoice.tax) == (Decimal("0.02"), Decimal("0.01"))


def test_an_exempt_item_carries_no_tax() -> None:
    invoice = InvoiceSimulator("stripe").simulate(
        customerId="c",
        periodStart="2025-01-01",
        periodEnd="2025-02-01",
        taxRate=10,
        usageItems=[
            {"metric": "a", "quantity": 1, "priceConfig": flat(100), "taxable": False},
            {"metric": "b", "quantity": 1, "priceConfig": flat(50)},
        ],
    )
    assert (invoice.tax, invoice.total) == (5, 155)


@pytest.mark.parametrize(("mode", "cents"), [("none", 3100), ("day", 1700), ("second", 1650)])
def test_a_fixed_fee_is_prorated_as_it_says(mode: str, cents: int) -> None:
    fee = {
        "description": "base",
        "amount": 31,
        "proration": mode,
        "startDate": "2025-01-15T12:00:00Z",
    }
    assert simulate(fixedFees=[fee]).subtotal_minor == cents


def test_usage_priced_by_a_stripe_price_object() -> None:
    price = {"id": "price_1", "currency": "usd", "billing_scheme": "per_unit", "unit_amount": 25}
    invoice = InvoiceSimulator("stripe").simulate(
        customer_id="c",
        period_start="2025-01-01",
        period_end="2025-02-01",
        usage_items=[{"metric": "m", "quantity": 4, "price": price}],
    )
    assert invoice.total == 1


# -- it always adds up -------------------------------------------------------------------------

AMOUNTS = st.integers(0, 10**9)
PERCENTS = st.decimals(min_value="0.01", max_value=100, places=2)


@st.composite
def inputs(draw: st.DrawFn) -> InvoiceInput:
    items = tuple(
        UsageItem(
            metric=f"m{index}",
            quantity=draw(st.decimals(min_value=0, max_value=10**6, places=6)),
            price=Price(
                model=Model.FLAT,
                currency="USD",
                unit_amount=draw(st.decimals(min_value=0, max_value=1000, places=12)),
                tax_behavior=draw(st.sampled_from([None, *TaxBehavior])),
            ),
            taxable=draw(st.booleans()),
        )
        for index in range(draw(st.integers(0, 4)))
    )
    coupon = st.one_of(
        st.builds(Coupon, percent_off=PERCENTS),
        st.builds(Coupon, amount_off=AMOUNTS.map(Decimal)),
    )
    return InvoiceInput(
        customer_id="c",
        period_start=START,
        period_end=END,
        currency="USD",
        exponent=2,
        items=items,
        fixed_fees=tuple(
            FixedFee("fee", Decimal(amount)) for amount in draw(st.lists(AMOUNTS, max_size=2))
        ),
        minimum_spend=draw(st.none() | st.builds(MinimumSpend, AMOUNTS.map(Decimal))),
        credits=tuple(
            draw(
                st.lists(
                    st.builds(
                        Credit, amount=AMOUNTS.map(Decimal), timing=st.sampled_from(CreditTiming)
                    ),
                    max_size=3,
                )
            )
        ),
        coupons=tuple(draw(st.lists(coupon, max_size=3))),
        tax_rate=draw(st.decimals(min_value=0, max_value=100, places=4)),
        tax_rounding=draw(st.sampled_from(list(TaxRounding))),
    )


@given(inputs())
def test_the_invoice_adds_up_in_whole_minor_units(item: InvoiceInput) -> None:
    invoice = compute_invoice(item, RuleSet.STRIPE)
    lines = invoice.lines
    assert invoice.subtotal_minor == sum(line.amount_minor for line in lines)
    assert invoice.discount_minor == sum(line.discount_minor for line in lines)
    assert invoice.credit_minor + invoice.commitment_minor == sum(
        line.credit_minor for line in lines
    )
    assert invoice.tax_minor == sum(line.tax_minor for line in lines)
    assert invoice.total_minor == (
        invoice.subtotal_minor
        - invoice.discount_minor
        - invoice.commitment_minor
        - invoice.credit_minor
        + invoice.tax_minor
        - invoice.tax_included_minor
    )
    for line in lines:
        assert 0 <= line.discount_minor + line.credit_minor <= line.amount_minor
    assert 0 <= invoice.amount_due_minor <= invoice.total_minor
