"""Classification on values: every cause is named, and the normal course is never drift."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciliation.drift import agree, classify, severity
from reconciliation.facts import Cause, Edge, InvoiceFact
from tests.reconciliation.facts_builder import LONG_AGO, NOW, facts, push

FIFTH = date(2026, 11, 5)
MINUTES = timedelta(minutes=1)


def named(found) -> list[tuple[Cause, Decimal]]:
    return [(each.cause, each.units) for each in found]


def test_parity_has_no_findings():
    assert classify(facts(push(1, "10"), push(2, "5", day=6))) == []


def test_an_open_push_is_in_flight_whether_or_not_stripe_shows_it():
    waiting = push(2, "5", state="sending", age=MINUTES, settled_at=None)
    for shown in ("10", "15"):
        found = classify(facts(push(1, "10"), waiting, stripe={FIFTH: Decimal(shown)}))
        assert named(found) == [(Cause.IN_FLIGHT, Decimal(5))]
        assert not found[0].alarms


def test_an_open_push_older_than_an_hour_alarms():
    stuck = push(2, "5", state="retry", age=timedelta(hours=2), settled_at=None)
    assert classify(facts(push(1, "10"), stuck))[0].alarms


def test_a_push_acknowledged_lately_may_be_missing():
    found = classify(facts(push(1, "10"), push(2, "5", age=MINUTES), stripe={FIFTH: Decimal(10)}))
    assert named(found) == [(Cause.SETTLING, Decimal(5))]
    assert not found[0].alarms


def test_a_push_missing_after_the_settling_window_is_lost():
    found = classify(facts(push(1, "10"), push(2, "5"), stripe={FIFTH: Decimal(10)}))
    assert named(found) == [(Cause.LOST_AT_STRIPE, Decimal(5))]
    assert [each.sequence for each in found[0].pushes] == [2]


def test_a_loss_beside_a_settling_push_is_split():
    made = facts(
        push(1, "10"), push(2, "7"), push(3, "5", age=MINUTES), stripe={FIFTH: Decimal(10)}
    )
    assert set(named(classify(made))) == {
        (Cause.LOST_AT_STRIPE, Decimal(7)),
        (Cause.SETTLING, Decimal(5)),
    }


def test_a_settling_push_does_not_hide_a_difference_it_cannot_explain():
    made = facts(push(1, "10"), push(2, "5", age=MINUTES), stripe={FIFTH: Decimal(9)})
    assert any(each.alarms for each in classify(made))


def test_stripe_higher_by_one_of_our_pushes_is_a_duplicate():
    found = classify(facts(push(1, "10"), push(2, "7"), stripe={FIFTH: Decimal(24)}))
    assert named(found) == [(Cause.DUPLICATED, Decimal(-7))]
    assert found[0].pushes[0].sequence == 2


def test_stripe_higher_by_anything_else_is_a_foreign_writer():
    found = classify(facts(push(1, "10"), push(2, "7"), stripe={FIFTH: Decimal(22)}))
    assert named(found) == [(Cause.FOREIGN_WRITER, Decimal(-5))]


def test_the_hour_tells_a_foreign_writer_from_a_duplicate():
    other_hour = datetime(2026, 11, 5, 15, tzinfo=UTC)
    own_hour = datetime(2026, 11, 5, 10, tzinfo=UTC)
    made = facts(
        push(1, "10"),
        stripe={FIFTH: Decimal(20)},
        hours={own_hour: Decimal(10), other_hour: Decimal(10)},
    )
    assert named(classify(made)) == [(Cause.FOREIGN_WRITER, Decimal(-10))]


def test_usage_that_no_push_has_said_is_unpushed():
    made = facts(push(1, "10"), ledger=Decimal(14), counter=Decimal(14), wanted=Decimal(14))
    assert named(classify(made)) == [(Cause.UNPUSHED, Decimal(4))]


def test_usage_of_the_last_minutes_waits_for_its_push():
    made = facts(
        push(1, "10"),
        ledger=Decimal(14),
        counter=Decimal(14),
        wanted=Decimal(14),
        counter_moved_at=NOW - MINUTES,
    )
    assert named(classify(made)) == [(Cause.IN_FLIGHT, Decimal(4))]


def test_a_ledger_that_differs_from_its_counter_is_named():
    found = classify(facts(push(1, "10"), ledger=Decimal(12)))
    assert named(found) == [(Cause.COUNTER_MISMATCH, Decimal(2))]


def test_a_rejected_push_whose_value_is_still_missing_is_named_with_its_webhook():
    gone = push(
        2, "5", state="rejected", rejected_by="evt_1", error_code="meter_event_invalid_value"
    )
    made = facts(push(1, "10"), gone, ledger=Decimal(15), counter=Decimal(15), wanted=Decimal(15))
    found = classify(made)
    assert named(found) == [(Cause.ASYNC_REJECTED, Decimal(5))]
    assert found[0].evidence["pushes"][0]["webhookEvent"] == "evt_1"


@pytest.mark.parametrize("state", ["rejected", "parked"])
def test_a_timestamp_that_stripe_refuses_is_out_of_window(state):
    refused = push(2, "5", state=state, error_code="timestamp_too_far_in_past")
    made = facts(
        push(1, "10"), refused, ledger=Decimal(15), counter=Decimal(15), wanted=Decimal(15)
    )
    assert named(classify(made)) == [(Cause.OUT_OF_WINDOW, Decimal(5))]


def test_a_period_too_old_for_stripe_is_out_of_window():
    later = NOW + timedelta(days=60)
    made = facts(push(1, "10"), now=later, ledger=Decimal(15), counter=Decimal(15))
    made = facts(
        push(1, "10"), now=later, ledger=Decimal(15), counter=Decimal(15), wanted=Decimal(15)
    )
    assert named(classify(made)) == [(Cause.OUT_OF_WINDOW, Decimal(5))]


def test_usage_with_a_former_customer_is_with_the_wrong_customer():
    found = classify(facts(push(1, "10", customer="cus_old"), stripe={}))
    assert named(found) == [(Cause.WRONG_CUSTOMER, Decimal(10))]
    assert found[0].evidence["belongsTo"] == "cus_1"


def test_usage_in_a_former_meter_is_a_recreated_meter():
    made = facts(
        push(1, "10"),
        push(2, "5"),
        stripe={FIFTH: Decimal(5)},
        other_meters={"mtr_old": Decimal(10)},
    )
    assert named(classify(made)) == [(Cause.METER_RECREATED, Decimal(10))]


def test_usage_on_the_other_side_of_the_period_bound_straddles():
    first = push(1, "10", day=1)
    made = facts(first, stripe={}, before=Edge(Decimal(0), Decimal(10)))
    found = classify(made)
    assert named(found) == [(Cause.BOUNDARY_STRADDLE, Decimal(10))]
    assert found[0].evidence["bound"] == "start"


def test_usage_on_the_next_day_moves_nothing_in_total():
    made = facts(
        push(1, "10"),
        push(2, "3", day=7),
        stripe={date(2026, 11, 6): Decimal(10), date(2026, 11, 7): Decimal(3)},
    )
    assert named(classify(made)) == [(Cause.BOUNDARY_STRADDLE, Decimal(0))]


def test_usage_after_the_freeze_is_late():
    made = facts(
        push(1, "10"),
        ledger=Decimal(12),
        counter=Decimal(12),
        wanted=Decimal(12),
        frozen_at=NOW - LONG_AGO,
    )
    assert named(classify(made)) == [(Cause.LATE_AFTER_FREEZE, Decimal(2))]


def test_an_invoice_final_before_the_last_push_lacks_it():
    invoice = InvoiceFact(quantity=Decimal(10), finalized_at=NOW - 3 * LONG_AGO, invoice_id="in_1")
    made = facts(push(1, "10", age=4 * LONG_AGO), push(2, "5"), invoice=invoice)
    assert named(classify(made)) == [(Cause.LATE_AFTER_FREEZE, Decimal(5))]


def test_an_invoice_short_after_a_price_change_lost_usage():
    invoice = InvoiceFact(
        quantity=Decimal(4), finalized_at=NOW - MINUTES, invoice_id="in_1", price_changed=True
    )
    assert named(classify(facts(push(1, "10"), invoice=invoice))) == [
        (Cause.PRICE_CHANGE_LOSS, Decimal(6))
    ]


def test_what_makes_no_whole_step_is_a_carry_and_no_drift():
    found = classify(facts(push(1, "10"), carry=Decimal("0.5")))
    assert named(found) == [(Cause.ROUNDING_CARRY, Decimal(0))]
    assert not found[0].alarms


def test_noise_of_a_double_is_no_difference():
    assert agree(Decimal("0.3"), Decimal("0.30000000000000004"))
    assert not agree(Decimal("0.3"), Decimal("0.300000000001"))


def test_epsilon_orders_and_hides_nothing():
    assert severity(Decimal(1), larger=Decimal(1000), epsilon=Decimal("0.005")) == "warning"
    assert severity(Decimal(6), larger=Decimal(1000), epsilon=Decimal("0.005")) == "critical"


VALUES = st.decimals(min_value=-50, max_value=1000, places=2).filter(lambda value: value != 0)
PUSHES = st.lists(
    st.tuples(VALUES, st.integers(1, 19), st.sampled_from([1, 30, 3000]), st.booleans()),
    max_size=8,
)


@given(PUSHES, st.randoms(use_true_random=False))
def test_no_history_of_pushes_in_flight_or_settling_raises_an_alarm(rows, dice):
    pushes, stripe = [], {}
    for number, (value, day, minutes, is_open) in enumerate(rows, 1):
        state = "sending" if is_open and minutes == 1 else "acknowledged"
        made = push(number, str(value), day=day, age=minutes * MINUTES, state=state)
        pushes.append(made)
        # Recent and open ones may or may not show at Stripe; old ones always do.
        if minutes > 15 or dice.random() < 0.5:
            stripe[made.day] = stripe.get(made.day, Decimal(0)) + made.delta
    found = classify(facts(*pushes, stripe=stripe))
    assert not [each for each in found if each.alarms]


@given(PUSHES, VALUES, st.integers(1, 19))
def test_every_divergence_of_settled_pushes_is_named_in_full(rows, change, day):
    pushes = [push(n, str(row[0]), day=row[1]) for n, row in enumerate(rows, 1)]
    made = facts(*pushes)
    stripe = dict(made.stripe)
    hit = date(2026, 11, day)
    stripe[hit] = stripe.get(hit, Decimal(0)) + change
    found = classify(facts(*pushes, stripe=stripe))
    assert any(each.alarms for each in found)
    assert sum(each.units for each in found) == -change
