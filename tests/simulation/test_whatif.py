"""Re-rating real usage: exact per customer, complete in sum, honest about who pays more."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from billing.pricing import (
    Coupon,
    FixedFee,
    InvoiceInput,
    MinimumSpend,
    MixedCurrencies,
    NegativeNotAllowed,
    Price,
    PricingError,
    RuleSet,
    UnsupportedTerm,
    UsageItem,
    compute_invoice,
    price_from_config,
)
from billing.simulation.cli import sim
from billing.simulation.whatif import PeriodRater, PriceSet, UsageRow, what_if
from billing.simulation.whatif_files import as_csv, read_price_set

EXAMPLES = Path(__file__).parents[2] / "examples" / "scenarios" / "whatif"


def flat(unit: str, currency: str = "USD") -> Price:
    config = {"model": "flat", "currency": currency, "unitPrice": unit}
    return price_from_config(config, rules=RuleSet.STRIPE)


def volume(*rows: tuple[Any, str]) -> Price:
    tiers = [{"upTo": up_to, "unitPrice": unit} for up_to, unit in rows]
    config = {"model": "volume", "currency": "USD", "tiers": tiers}
    return price_from_config(config, rules=RuleSet.STRIPE)


def row(customer: str, quantity: object, metric: str = "m", period: str = "2025-01") -> UsageRow:
    return UsageRow(customer, period, metric, Decimal(str(quantity)))


NOW = PriceSet({"m": flat("1")})


def test_deltas_are_per_customer_over_all_periods_and_sum_to_the_revenue() -> None:
    usage = [row("a", 10), row("a", 20, period="2025-02"), row("b", 5)]
    result = what_if(usage, current=NOW, proposed=PriceSet({"m": flat("1.5")}))
    assert [(c.customer, c.periods, c.before_minor, c.after_minor) for c in result.customers] == [
        ("a", 2, 3000, 4500),
        ("b", 1, 500, 750),
    ]
    assert (result.before_minor, result.after_minor, result.percent) == (3500, 5250, Decimal(50))
    assert result.by_period == (("2025-01", 1500, 2250), ("2025-02", 2000, 3000))


def test_rows_of_one_customer_period_and_metric_add_up_before_rating() -> None:
    tiers = PriceSet({"m": volume((10, "1"), (None, "2"))})
    result = what_if([row("a", 6), row("a", 6)], current=tiers, proposed=tiers)
    assert result.before_minor == result.after_minor == 2400


def test_winners_and_losers_are_seen_from_the_customer() -> None:
    proposed = PriceSet({"m": volume((10, "2"), (None, "0.5"))})
    usage = [row("small", 10), row("large", 100), row("none", 0)]
    result = what_if(usage, current=NOW, proposed=proposed)
    assert [item.customer for item in result.losers] == ["small"]
    assert [item.customer for item in result.winners] == ["large"]
    assert result.unchanged == 1


def test_a_customer_can_have_prices_of_its_own() -> None:
    special = PriceSet({"m": flat("1")}, overrides={("a", "m"): flat("0.5")})
    result = what_if([row("a", 10), row("b", 10)], current=special, proposed=NOW)
    assert [(c.customer, c.delta_minor) for c in result.customers] == [("a", 500), ("b", 0)]


def test_the_gate_counts_charges_from_nothing_as_a_rise() -> None:
    proposed = PriceSet({"m": flat("1.2"), "n": flat("1")})
    usage = [row("a", 10), row("b", 10, metric="n"), row("c", 0)]
    result = what_if(usage, current=NOW, proposed=proposed)
    rising = {item.customer for item in result.rising_more_than(Decimal(20))}
    assert rising == {"b"}
    assert {item.customer for item in result.rising_more_than(Decimal("19.99"))} == {"a", "b"}
    assert (result.unpriced_before, result.unpriced_after) == (("n",), ())


def test_every_customer_is_in_exactly_one_bucket_of_the_distribution() -> None:
    proposed = PriceSet({"m": volume((5, "1"), (50, "1.1"), (None, "0.4")), "n": flat("1")})
    usage = [row("same", 5), row("up", 50), row("down", 51), row("new", 1, metric="n")]
    result = what_if(usage, current=NOW, proposed=proposed)
    filled = [
        (b.over, b.up_to, b.is_new, b.customers, b.delta_minor)
        for b in result.distribution
        if b.customers
    ]
    assert filled == [
        (None, -50, False, 1, -3060),
        (0, 0, False, 1, 0),
        (5, 10, False, 1, 500),
        (None, None, True, 1, 100),
    ]
    assert sum(b.delta_minor for b in result.distribution) == result.delta_minor


def test_customers_just_below_a_cliff_are_listed() -> None:
    proposed = PriceSet({"m": volume((100, "1"), (None, "0.5"))})
    usage = [row("far", 94), row("near", 96), row("at", 100), row("past", 101)]
    result = what_if(usage, current=NOW, proposed=proposed)
    assert [(item.customer, item.at, item.jump_minor) for item in result.cliffs] == [
        ("at", 100, -5000),
        ("near", 100, -5000),
    ]


def test_two_currencies_are_refused() -> None:
    with pytest.raises(MixedCurrencies):
        PriceSet({"m": flat("1"), "n": flat("1", "EUR")})
    with pytest.raises(MixedCurrencies):
        what_if([], current=NOW, proposed=PriceSet({"m": flat("1", "EUR")}))


def test_negative_usage_and_terms_without_a_rule_are_refused() -> None:
    with pytest.raises(NegativeNotAllowed):
        what_if([row("a", -1)], current=NOW, proposed=NOW)
    with pytest.raises(UnsupportedTerm):
        PriceSet({"m": flat("1")}, rules=RuleSet.COMPAT, minimum_spend_minor=5)


AMOUNTS = st.integers(0, 10**6)
COUPONS = st.one_of(
    st.builds(
        Coupon,
        percent_off=st.decimals(min_value="0.01", max_value=100, places=2),
        metrics=st.sampled_from([None, frozenset({"m"}), frozenset({"n"})]),
    ),
    st.builds(
        Coupon,
        amount_off=AMOUNTS.map(Decimal),
        metrics=st.sampled_from([None, frozenset({"m"})]),
    ),
)


@given(
    st.decimals(min_value=0, max_value=10**6, places=3),
    st.decimals(min_value=0, max_value=10**6, places=3),
    AMOUNTS,
    AMOUNTS,
    st.lists(COUPONS, max_size=3),
)
def test_a_rerated_period_is_what_its_invoice_says(
    one: Decimal, other: Decimal, fee: int, least: int, coupons: list[Coupon]
) -> None:
    prices = {"m": volume((10, "1.2345"), (1000, "1"), (None, "0.5")), "n": flat("0.0333")}
    price_set = PriceSet(
        prices, fixed_fee_minor=fee, minimum_spend_minor=least, coupons=tuple(coupons)
    )
    given_input = InvoiceInput(
        customer_id="a",
        period_start=datetime(2025, 1, 1, tzinfo=UTC),
        period_end=datetime(2025, 2, 1, tzinfo=UTC),
        currency="USD",
        exponent=2,
        items=(UsageItem("m", one, prices["m"]), UsageItem("n", other, prices["n"])),
        fixed_fees=(FixedFee("fee", Decimal(fee)),),
        minimum_spend=MinimumSpend(Decimal(least)),
        coupons=tuple(coupons),
    )
    charged = PeriodRater(price_set).charge("a", {"m": one, "n": other})
    assert charged == compute_invoice(given_input, RuleSet.STRIPE).total_minor


def test_a_price_set_document_takes_stripe_prices_and_configs() -> None:
    found = read_price_set(
        {
            "prices": {
                "a": {"currency": "usd", "billing_scheme": "per_unit", "unit_amount": 5},
                "b": {"model": "flat", "currency": "USD", "unitPrice": 0.05},
            },
            "fixedFee": 1,
            "minimumSpend": 2.5,
        }
    )
    assert found.prices["a"].unit_amount == found.prices["b"].unit_amount == 5
    assert (found.fixed_fee_minor, found.minimum_spend_minor) == (100, 250)


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"prices": {}}, "prices"),
        ({"prices": []}, "prices"),
        ({"prices": {"m": {"model": "free"}}}, "prices.m.model"),
        ({"prices": {"m": {"currency": "usd", "billing_scheme": "tiered"}}}, "prices.m.tiers_mode"),
        ({"price": {}}, "price"),
    ],
)
def test_a_bad_price_set_names_its_field(document: Any, path: str) -> None:
    with pytest.raises(PricingError) as caught:
        read_price_set(document)
    assert caught.value.path == path


def test_csv_does_not_run_in_a_spreadsheet() -> None:
    result = what_if([row("=cmd()", 10)], current=NOW, proposed=PriceSet({"m": flat("0.5")}))
    assert as_csv(result).splitlines() == [
        "customer,periods,currency,before,after,delta,percent",
        "'=cmd(),1,USD,10.00,5.00,-5.00,-50",
    ]


def call(*arguments: object) -> Any:
    files = ["--current", EXAMPLES / "current.yaml", "--proposed", EXAMPLES / "proposed.yaml"]
    return CliRunner().invoke(sim, ["whatif", *map(str, [*files, *arguments])])


def test_the_command_fails_when_a_customer_rises_too_much() -> None:
    usage = ["--usage", EXAMPLES / "usage.csv"]
    assert call(*usage).exit_code == 0
    assert call(*usage, "--fail-if-increase", "20%").exit_code == 1
    assert call(*usage, "--fail-if-increase", "250 %").exit_code == 0
    assert call(*usage, "--fail-if-increase", "much").exit_code == 1
    assert json.loads(call(*usage, "--format", "json").output)["revenue"]["delta"] == -152


def test_a_bad_usage_row_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "u.csv"
    path.write_text("customer,period,metric,quantity\na,1,api_calls,1\na,1,api_calls,NaN\n")
    done = call("--usage", path)
    assert (done.exit_code, "u.csv:3.quantity: must be a finite number" in done.output) == (1, True)
    path.write_text("customer,period,metric\n")
    assert "has no column quantity" in call("--usage", path).output
