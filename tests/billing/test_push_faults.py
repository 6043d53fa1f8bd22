"""Faults 33 to 45: whatever goes wrong, Stripe ends with the total, once."""

import os
import subprocess
import sys
import threading
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from billing import selectors
from billing.models import Push, PushAttempt, PushCursor
from billing.services import accounts, delivery, delivery_sql, review, settling
from billing.services.running import plan_now, run_pushes
from billing.stripe.answers import Answer, Outcome
from billing.stripe.client import client_for
from counters.models import Adjustment, Counter
from stripemeter.lib import clock
from stripemeter.lib.faults import InjectedFault
from tests.builders.billing import World, at

ROOT = Path(__file__).resolve().parents[2]
EVENTS = "/v1/billing/meter_events"


def assert_said_once(world: World, total: str | int, ref: str = "c1") -> None:
    """Stripe's sum, the acknowledged pushes and the ledger's total are one number."""
    assert world.at_stripe(ref) == Decimal(total)
    acknowledged = Push.objects.filter(customer_ref=ref, state="acknowledged", mode="live")
    assert sum((each.delta for each in acknowledged), Decimal(0)) == Decimal(total)
    assert selectors.slices_that_disagree() == []


def assert_one_value_per_identifier(world: World) -> None:
    """I22, I23: every call has its intent, and says what the intent says, each time."""
    intents = {
        each.identifier: (each.value, int(each.stamped_at.timestamp()), each.stripe_customer_id)
        for each in Push.objects.all()
    }
    for line in world.calls():
        said = (Decimal(line["value"]), line["timestamp"], line["customer"])
        assert intents[line["identifier"]] == said


@pytest.mark.parametrize(
    "kind",
    [
        "error_500_before",
        "error_500_after",
        "error_503",
        "drop_before",
        "drop_after",
        "truncated",
        "html",
        "empty",
        "wrong_id",
        "rate_limit",
        "lock_timeout",
        "conflict",
    ],
)
@pytest.mark.parametrize("strikes", [1, 3])
def test_a_fault_on_the_way_neither_loses_nor_doubles(world, kind, strikes):
    world.mapping()
    world.use(5, ts=at(18))
    world.use(3)
    world.sandbox.fault(kind, path=EVENTS, count=strikes)
    world.settle()
    assert_said_once(world, 8)
    assert_one_value_per_identifier(world)


@pytest.mark.parametrize(
    "point",
    [
        "push.intent_committed",
        "push.claimed",
        "push.before_call",
        "push.after_call",
        "push.answered",
        "push.outcome_written",
    ],
)
def test_a_worker_killed_anywhere_leaves_nothing_lost_and_nothing_doubled(world, point):
    world.now = clock.now().replace(microsecond=0)
    world.move()
    world.mapping()
    world.use(5)
    killed = subprocess.run(
        [sys.executable, "manage.py", "push"],
        cwd=ROOT,
        env={**os.environ, "STRIPEMETER_FAULT_POINTS": f"{point}=kill"},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -9, killed.stderr.decode()[-2000:]
    assert Push.objects.count() == 1
    world.move(minutes=5)
    world.settle()
    assert_said_once(world, 5)
    assert Push.objects.count() == 1


def test_a_worker_that_dies_before_writing_down_is_settled_by_the_duplicate(world, monkeypatch):
    world.mapping()
    world.use(5)
    monkeypatch.setenv("STRIPEMETER_FAULT_POINTS", "push.answered=raise")
    with pytest.raises(InjectedFault):
        world.push()
    monkeypatch.delenv("STRIPEMETER_FAULT_POINTS")
    assert Push.objects.get().state == "sending"
    assert world.push().outcomes == {}
    world.move(minutes=5)
    # Stripe forgot nothing, but answers another HTTP key with the duplicate error.
    Push.objects.update(http_key=1)
    assert world.push().outcomes == {"duplicate": 1}
    assert_said_once(world, 5)


def test_a_stored_500_is_left_behind_by_a_new_http_key(world):
    world.mapping()
    world.use(5)
    world.sandbox.fault("error_500_after", path=EVENTS)
    world.settle()
    keys = [attempt.outcome for attempt in PushAttempt.objects.order_by("token")]
    assert keys == ["unknown", "duplicate"]
    assert Push.objects.get().http_key == 1
    assert_said_once(world, 5)


def test_a_duplicate_at_the_first_try_is_not_taken_for_ours(world):
    world.mapping()
    world.use(5)
    world.push()
    first = Push.objects.get()
    # As after the restore of an older backup: somebody used the next identifier before.
    world.use(4)
    identifier = first.identifier.rsplit("-", 1)[0] + "-2"
    client_for("live").v1.billing.meter_events.create(
        {
            "event_name": "requests",
            "identifier": identifier,
            "timestamp": int(world.now.timestamp()),
            "payload": {"stripe_customer_id": first.stripe_customer_id, "value": "99"},
        }
    )
    world.push()
    second = Push.objects.get(sequence=2)
    assert (second.state, second.identifier) == ("needs_review", identifier)


def test_a_zombie_whose_lease_ran_out_changes_nothing(world):
    world.mapping()
    world.use(5)
    world.sandbox.fault("drop_before", path=EVENTS)
    world.push()
    world.move(minutes=11)
    account = world.account()
    (mine,) = delivery.claim(account_id=account.pk, wanted=1, now=world.now).pushes
    world.move(minutes=3)
    (theirs,) = delivery.claim(account_id=account.pk, wanted=1, now=world.now).pushes
    assert (mine.id, theirs.token) == (theirs.id, mine.token + 1)
    late = delivery.Tried(mine, Answer(Outcome.REFUSED, 400), world.now, world.now)
    assert delivery.record(account_id=account.pk, tries=[late], now=world.now) == 0
    assert Push.objects.get().state == "sending"
    taken = delivery.Tried(theirs, Answer(Outcome.ACCEPTED, 200), world.now, world.now)
    assert delivery.record(account_id=account.pk, tries=[taken], now=world.now) == 1
    assert not PushAttempt.objects.get(token=mine.token).applied


def test_a_worker_that_stood_still_after_its_claim_does_not_call(world):
    """Sent 22 hours after the first try, the identifier would arrive when Stripe forgot it."""
    world.mapping()
    world.use(5)
    world.sandbox.fault("drop_after", path=EVENTS)
    world.push()
    world.move(hours=22)
    main = threading.current_thread()

    def stands_still_when_it_has_claimed():
        here = threading.current_thread() is main
        if world.now == before and (not here or Push.objects.filter(state="sending").exists()):
            world.move(hours=3)
        return world.now

    before = world.now
    report = run_pushes(clock=stands_still_when_it_has_claimed, seconds=5)
    assert report.outcomes == {"not_sent": 1}
    assert len(world.calls()) == 1
    assert world.at_stripe("c1") == 5


def test_two_workers_at_once_never_send_on_one_lane_and_never_twice(world):
    world.mapping()
    refs = [f"w{number}" for number in range(6)]
    for ref in refs:
        world.customer(ref)
        for day in (17, 18, 19, 20):
            world.use(day, customer=ref, ts=at(day, 9))
    world.sandbox.configure(latency_ms=20)
    errors = []

    def work() -> None:
        try:
            run_pushes(clock=world.clock, seconds=30)
        except Exception as error:  # the assertion below shows it
            errors.append(error)
        finally:
            connections.close_all()

    workers = [threading.Thread(target=work) for _ in range(3)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    world.sandbox.configure(latency_ms=0)
    world.settle()
    assert errors == []
    for ref in refs:
        assert_said_once(world, 74, ref)
    # The sandbox refuses a second call on a lane that is busy: none was made.
    assert not PushAttempt.objects.exclude(outcome="accepted").exists()
    assert Push.objects.count() == 24


def test_two_runs_that_saw_the_same_push_due_send_it_once(world):
    world.mapping()
    world.use(5)
    plan_now(tenant_id=world.acme.pk, now=world.now)
    push = Push.objects.get()
    seen = {
        "now": world.now,
        "lease": world.now + delivery.LEASE,
        "tenants": [push.tenant_id],
        "ids": [push.id],
    }
    with connections["default"].cursor() as cursor:
        taken = []
        for _ in range(2):
            cursor.execute(delivery_sql.CLAIM, seen)
            taken.append(len(cursor.fetchall()))
    assert taken == [1, 0]


def test_two_planners_at_once_intend_a_delta_once(world, monkeypatch):
    world.mapping()
    world.use(5)
    world.push()
    world.use(4)
    # Both have read what there is to say before either writes it down.
    monkeypatch.setenv("STRIPEMETER_FAULT_POINTS", "push.planned=sleep:1.5")
    planned, errors = [], []
    ready = threading.Barrier(2)

    def plan() -> None:
        try:
            ready.wait()
            planned.append(plan_now(tenant_id=world.acme.pk, now=world.now)[0])
        except Exception as error:  # the assertion below shows it
            errors.append(error)
        finally:
            connections.close_all()

    planners = [threading.Thread(target=plan) for _ in range(2)]
    for each in planners:
        each.start()
    for each in planners:
        each.join()
    assert errors == []
    assert sorted(planned) == [0, 1]
    monkeypatch.delenv("STRIPEMETER_FAULT_POINTS")
    world.settle()
    assert_said_once(world, 9)


def test_a_rotated_key_halts_the_account_without_a_storm(world):
    world.mapping()
    world.customer("c2")
    world.use(5)
    world.use(6, customer="c2")
    world.sandbox.fault("unauthorized", path=EVENTS, count=None)
    world.push()
    calls = PushAttempt.objects.count()
    assert world.account().halted_at is not None
    world.move(hours=1)
    world.push()
    assert PushAttempt.objects.count() == calls == 1
    world.sandbox.clear_faults()
    accounts.resume_account(
        account_id=world.account().pk, tenant_id=world.acme.pk, actor="test", now=world.now
    )
    world.settle()
    assert_said_once(world, 5)
    assert_said_once(world, 6, "c2")


def test_refused_data_is_parked_and_other_customers_go_on(world):
    world.mapping()
    world.customer("c2")
    world.use(5)
    world.use(6, customer="c2")
    customer = world.customers[world.acme.pk, "c1", "live"]
    fault = world.sandbox.fault("bad_request", path=EVENTS, customer=customer, count=None)
    world.settle()
    assert_said_once(world, 6, "c2")
    parked = Push.objects.get(state="parked")
    assert parked.customer_ref == "c1"
    world.use(2)
    world.settle()
    assert PushAttempt.objects.filter(outcome="refused").count() == 1
    world.sandbox.clear_faults()
    assert fault
    mapping_id = parked.mapping_id
    review.release_cursors(
        tenant_id=world.acme.pk, mapping_id=mapping_id, mode="live", actor="test", now=world.now
    )
    world.settle()
    assert_said_once(world, 7)


def test_a_dead_meter_holds_the_mapping_after_one_call(world):
    world.mapping(metric="other", stripe_meter_event_name="nobody_knows")
    world.customer("c2")
    world.use(5, metric="other")
    world.push()
    world.use(6, metric="other", customer="c2")
    world.use(1, metric="other")
    world.push()
    assert Push.objects.filter(state="parked").count() <= 2
    assert PushCursor.objects.exclude(held_at=None).count() >= 1


def test_an_outage_opens_the_breaker_and_its_backlog_merges_into_one_delta(world):
    world.mapping()
    world.sandbox.fault("error_503", path=EVENTS, count=None)
    for _ in range(40):
        world.use(1, ts=world.now - timedelta(minutes=1))
        world.push()
        world.move(minutes=5)
    assert world.account().failures >= 5
    assert Push.objects.count() <= 2
    world.sandbox.clear_faults()
    world.settle()
    assert_said_once(world, 40)
    assert Push.objects.count() <= 4


def test_after_23_hours_nothing_is_sent_again_and_summaries_decide(world):
    world.mapping()
    world.use(5)
    world.sandbox.fault("drop_after", path=EVENTS)
    world.push()
    world.sandbox.fault("drop_before", path=EVENTS, count=None)
    for _ in range(10):
        world.move(hours=3)
        world.push()
    push = Push.objects.get()
    assert push.state == "unknown"
    sent = len(world.calls())
    world.sandbox.clear_faults()
    world.push()
    assert len(world.calls()) == sent == 1
    settling.settle_unknown(now=world.now)
    assert Push.objects.get().state == "acknowledged"
    assert_said_once(world, 5)


def test_an_unknown_push_that_never_arrived_is_planned_anew_after_two_equal_reads(world):
    world.mapping()
    world.use(5)
    world.sandbox.fault("drop_before", path=EVENTS, count=None)
    for _ in range(9):
        world.push()
        world.move(hours=3)
    world.sandbox.clear_faults()
    world.push()
    assert Push.objects.get().state == "unknown"
    assert settling.settle_unknown(now=world.now + timedelta(hours=1)) == 0
    assert settling.settle_unknown(now=world.now + timedelta(hours=2)) == 1
    assert Push.objects.get().state == "rejected"
    world.settle()
    assert_said_once(world, 5)


def test_no_attempt_is_later_than_23_hours_after_the_first(world):
    world.mapping()
    world.use(5)
    world.sandbox.fault("drop_before", path=EVENTS, count=None)
    for _ in range(200):
        world.push()
        world.move(minutes=13)
        if Push.objects.get().state == "unknown":
            break
    push = Push.objects.get()
    newest = PushAttempt.objects.order_by("-started_at").first()
    assert newest.started_at <= push.first_attempt_at + timedelta(hours=23)


def test_a_correction_downwards_goes_out_as_a_negative_increment(world):
    world.mapping()
    world.use(9)
    world.push()
    counter = Counter.objects.get()
    Adjustment.objects.create(
        tenant=world.acme,
        id=Push.objects.get().id,
        metric_id=counter.metric_id,
        customer_ref="c1",
        period_start=counter.period_start,
        day=world.now.date(),
        delta=Decimal(-4),
        reason="credit",
        status="approved",
        actor="test",
        created_at=world.now,
    )
    Counter.objects.filter(customer_ref="c1").update(
        adjusted=Decimal(-4), revision=counter.revision + 1
    )
    world.push()
    assert list(Push.objects.order_by("sequence").values_list("value", flat=True)) == [9, -4]
    assert_said_once(world, 5)


def test_a_verdict_on_a_push_releases_the_hold_that_it_made_and_no_other(world):
    world.mapping()
    world.customer("c2")
    world.sandbox.fault("bad_request", path=EVENTS, count=2)
    for ref in ("c1", "c2"):
        world.use(5, customer=ref)
    world.push()
    # As if the price had changed meanwhile: what is sent to c1 now would be lost.
    held = PushCursor.objects.filter(customer_ref="c1")
    assert held.update(held_reason="price_change_loss: the price was replaced") == 1
    for push in Push.objects.filter(state="parked"):
        review.settle_push(
            tenant_id=world.acme.pk, push_id=push.id, verdict="rejected", note="put right",
            actor="ada", now=world.now,
        )  # fmt: skip
    world.settle()
    assert (world.at_stripe(), world.at_stripe("c2")) == (0, 5)
    review.release_cursors(
        tenant_id=world.acme.pk, mapping_id=held.get().mapping_id, mode="live", actor="ada",
        now=world.now,
    )  # fmt: skip
    world.settle()
    assert world.at_stripe() == 5


def test_ten_thousand_held_cursors_would_be_released_by_a_handful_of_short_statements(world):
    mapping = world.mapping()
    PushCursor.objects.bulk_create(
        PushCursor(
            tenant_id=world.acme.pk, mapping_id=mapping.pk, customer_ref=f"c{number}",
            period_start=at(1, 0), period_end=at(1, 0, month=12), mode="live",
            held_at=world.now, held_reason="no_meter: gone",
        )
        for number in range(60)
    )  # fmt: skip
    place = {"tenant_id": world.acme.pk, "mapping_id": mapping.pk, "mode": "live"}
    with CaptureQueriesContext(connection) as said:
        assert review.release_cursors(**place, actor="ada", now=world.now) == 60
    assert max(len(each["sql"]) for each in said if "billing_push" in each["sql"]) < 1_000
    assert not PushCursor.objects.exclude(held_at=None, seen_revision=-1).exists()
    assert review.release_cursors(**place, actor="ada", now=world.now) == 0
