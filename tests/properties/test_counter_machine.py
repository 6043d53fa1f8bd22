"""Histories of everything that can happen to counters, against the oracle.

The normal run plays a few dozen histories, ``make chaos N=2000`` as many as asked for; a
failing history is printed as a program and can be replayed by its seed.
"""

import os
from collections.abc import Callable
from copy import copy
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import hypothesis
import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from counters.models import Adjustment, Counter, LateEvent
from counters.selectors import counter_total, current_usage, period_of
from counters.selectors.usage import totals_of
from counters.services import replay, set_calendar, set_period_state
from counters.services.adjustments import (
    Approver,
    approve_adjustment,
    create_adjustment,
    reject_adjustment,
    revert_adjustment,
)
from counters.services.recompute import Scope, differences, recompute
from ledger.files import Record
from ledger.models import Event, Metric
from ledger.services import backfill, operations
from stripemeter.lib.instants import rfc3339
from stripemeter.lib.periods import Period
from tests.builders.ledger import fold, make_event, make_metric, store
from tests.builders.tenancy import make_tenant
from tests.properties.oracle import Fact, Oracle

HISTORIES = int(os.environ.get("CHAOS_HISTORIES", "20"))
STEPS = int(os.environ.get("CHAOS_STEPS", "15"))
#: Shrinking a history on a real database takes minutes: only when asked for.
PHASES = set(Phase) if "CHAOS_SHRINK" in os.environ else set(Phase) - {Phase.shrink, Phase.explain}
METRICS = ("sum_a", "sum_b", "count_a", "max_a", "min_a", "last_a", "unique_a")
CUSTOMERS = ("cus_1", "cus_2")
START = datetime(2026, 3, 15, 12, tzinfo=UTC)

events = st.lists(
    st.tuples(
        st.sampled_from(METRICS),
        st.sampled_from(CUSTOMERS),
        st.decimals(0, 100, places=2, allow_nan=False),
        # Minutes before now: mostly inside the window, often around its edge, rarely far out.
        st.one_of(st.integers(-50, 600), st.integers(2_870, 2_890), st.integers(2_000, 80_000)),
        st.sampled_from("abc"),
    ),
    min_size=1,
    max_size=6,
)


class World:
    """What every history starts from; made once, since each history is rolled back to it."""

    def __init__(self) -> None:
        self.tenant, self.other = make_tenant("acme"), make_tenant("globex")
        for tenant in (self.tenant, self.other):
            for name in METRICS:
                make_metric(tenant, name, aggregation=name.split("_")[0])
        self.names = {m.pk: m.name for m in Metric.objects.filter(tenant=self.tenant)}
        store(self.other, make_event(7, metric="sum_a", ts=START), now=START)
        fold(START)


class CounterMachine(RuleBasedStateMachine):
    """One tenant under test beside another that must not move."""

    world: World
    played = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).played += 1
        self._rollback = transaction.atomic()
        self._rollback.__enter__()
        self.tenant, self.other = copy(self.world.tenant), self.world.other
        self.now = START
        self.oracle = Oracle()
        self.sent: list[list[Fact]] = []
        self.ids: dict[str, UUID] = {}
        self.number = 0

    def teardown(self) -> None:
        try:
            if not transaction.get_connection().needs_rollback:
                self.look()
        finally:
            transaction.set_rollback(True)
            self._rollback.__exit__(None, None, None)

    def _facts(self, drawn: list[tuple[Any, ...]]) -> list[Fact]:
        facts = []
        for metric, customer, quantity, minutes, member in drawn:
            self.number += 1
            # Times of their own, so that `last` has no ties within a batch.
            ts = self.now - timedelta(minutes=minutes) + timedelta(microseconds=self.number)
            key = f"k{self.number}"
            facts.append(Fact(key, metric, customer, quantity, ts, member, 0))
        return facts

    def _events(self, facts: list[Fact]) -> list[dict[str, Any]]:
        return [
            make_event(
                fact.quantity,
                metric=fact.metric,
                customer=fact.customer,
                ts=fact.ts,
                resourceId=fact.member,
                idempotencyKey=fact.key,
                source="sdk",
            )
            for fact in facts
        ]

    def _send(self, facts: list[Fact]) -> None:
        outcome = store(self.tenant, *self._events(facts), now=self.now)
        assert (outcome.accepted, outcome.duplicates) == self.oracle.ingest(facts)

    @initialize(review=st.booleans())
    def policy(self, review: bool) -> None:
        self.oracle.review = review
        self.tenant.late_policy = "review" if review else "auto"
        self.tenant.save()

    @rule(drawn=events)
    def ingest(self, drawn: list[tuple[Any, ...]]) -> None:
        facts = self._facts(drawn)
        self.sent.append(facts)
        self._send(facts)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def send_again_in_other_batches(self, data: st.DataObject) -> None:
        seen = [fact for batch in self.sent for fact in batch]
        self._send(data.draw(st.lists(st.sampled_from(seen), min_size=1, max_size=8, unique=True)))

    @rule()
    def fold(self) -> None:
        fold(self.now)
        self.oracle.fold()

    @rule(hours=st.integers(1, 400))
    def wait(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @rule(drawn=events)
    def backfill(self, drawn: list[tuple[Any, ...]]) -> None:
        facts = self._facts(drawn)
        self.sent.append(facts)
        days = [fact.ts.date() for fact in facts]
        operation = backfill.create_backfill(
            tenant_id=self.tenant.pk,
            tenant_key="acme",
            rows=(
                Record(line, {**event, "tenantId": "acme"})
                for line, event in enumerate(self._events(facts), 1)
            ),
            declared=backfill.Declared(min(days), max(days), "chaos", "events"),
            actor="t",
            now=self.now,
        )
        claimed = operations.claim(kind="backfill", now=self.now)
        assert claimed is not None
        backfill.run_backfill(claimed, clock=lambda: self.now)
        operation.refresh_from_db()
        counts = backfill.counts_of(operation)
        assert (counts["accepted"], counts["duplicates"]) == self.oracle.ingest(facts)

    @rule(
        metric=st.sampled_from(["sum_a", "sum_b", "count_a"]),
        customer=st.sampled_from(CUSTOMERS),
        delta=st.integers(-50, 50).filter(bool),
        hours=st.integers(0, 900),
    )
    def adjust(self, metric: str, customer: str, delta: int, hours: int) -> None:
        at = self.now - timedelta(hours=hours)
        if self.oracle.frozen(customer, at):
            return
        self.number += 1
        label = f"a{self.number}"
        made = create_adjustment(
            tenant_id=self.tenant.pk,
            metric=metric,
            customer_ref=customer,
            period_start=at,
            delta=Decimal(delta),
            reason="manual",
            actor="one",
            now=self.now,
            day=at.date(),
        )
        self.ids[label] = made.id
        self.oracle.adjust(label, metric, customer, at, Decimal(delta))

    @precondition(lambda self: self.ids)
    @rule(data=st.data(), verb=st.sampled_from(["approve", "approve", "reject", "revert"]))
    def decide(self, data: st.DataObject, verb: str) -> None:
        label = data.draw(st.sampled_from(sorted(self.ids)))
        entry = self.oracle.entry(label)
        if self.oracle.frozen(entry.customer, entry.start):
            return
        named: dict[str, Any] = {
            "tenant_id": self.tenant.pk, "adjustment_id": self.ids[label], "now": self.now,
        }  # fmt: skip
        if verb == "approve" and entry.status == "pending":
            approve_adjustment(**named, approver=Approver("two"))
            entry.status = "approved"
        elif verb == "approve" and entry.status == "approved":
            assert not approve_adjustment(**named, approver=Approver("two"))
        elif verb == "reject" and entry.status == "pending":
            reject_adjustment(**named, actor="two")
            entry.status = "rejected"
        elif verb == "revert" and entry.status == "approved":
            revert_adjustment(**named, actor="two")
            self.oracle.revert(label)

    @rule(
        customer=st.sampled_from([*CUSTOMERS, None]),
        day=st.integers(1, 31),
        hour=st.integers(0, 23),
        months=st.integers(1, 3),
    )
    def change_calendar(self, customer: str | None, day: int, hour: int, months: int) -> None:
        anchor = datetime(2025, 1, day, hour, tzinfo=UTC)
        set_calendar(
            tenant_id=self.tenant.pk,
            customer_ref=customer,
            anchor=anchor,
            interval="month",
            interval_count=months,
            actor="t",
            now=self.now,
        )
        self.oracle.set_calendar(customer, anchor, months)

    @rule(customer=st.sampled_from(CUSTOMERS), days=st.integers(0, 60))
    def freeze(self, customer: str, days: int) -> None:
        instant = self.now - timedelta(days=days)
        set_period_state(
            tenant_id=self.tenant.pk,
            customer_ref=customer,
            period_start=instant,
            state="frozen",
            now=self.now,
        )
        self.oracle.freeze(customer, instant)

    def _scope(self) -> Scope:
        far = timedelta(days=2_000)
        return Scope(self.tenant.pk, tuple(self.world.names), START - far, self.now + far)

    @rule(damage=st.sampled_from([{"sum": 1}, {"adjusted": 3}, {"max": 1_000, "last": 5}, None]))
    def replay(self, damage: dict[str, int] | None) -> None:
        thawed = [
            row.pk
            for row in Counter.objects.filter(tenant_id=self.tenant.pk)
            if not self.oracle.frozen(row.customer_ref, row.period_start)
        ]
        if damage:
            Counter.objects.filter(pk__in=thawed).update(**damage)
        window = replay.Window(
            self.tenant.pk, (), START - timedelta(days=900), self.now + timedelta(hours=1)
        )
        predicted = replay.preview(window)
        applied = replay.apply_replay(window, actor="t", now=self.now)
        assert applied.changes == predicted.changes
        assert replay.apply_replay(window, actor="t", now=self.now).counters_changed == 0

    @rule()
    def recompute(self) -> None:
        recompute(self._scope())

    @rule()
    def look(self) -> None:
        """Compare everything; done at the end of each history too."""
        self._counters_are_what_the_oracle_says()
        self._each_event_is_counted_or_late_or_pending()
        self._adjustments_are_what_the_oracle_says()
        self._counters_equal_their_ledger()
        self._reads_see_what_is_stored()
        self._the_other_tenant_never_moves()

    def _counters_are_what_the_oracle_says(self) -> None:
        found = {}
        for row in Counter.objects.filter(tenant_id=self.tenant.pk):
            name = self.world.names[row.metric_id]
            folded = totals_of(row).of(name.split("_")[0])
            assert counter_total(row, name.split("_")[0]) == folded + row.adjusted
            if row.event_count or row.adjusted:
                found[name, row.customer_ref, row.period_start] = (folded, row.adjusted)
        expected = {
            key: pair
            for key, pair in self.oracle.totals().items()
            if pair != (0, 0) or key in self.oracle.counted()
        }
        assert found == expected

    def _each_event_is_counted_or_late_or_pending(self) -> None:
        assert Event.objects.filter(tenant_id=self.tenant.pk).count() == len(self.oracle.facts)
        assert LateEvent.objects.filter(tenant_id=self.tenant.pk).count() == len(self.oracle.late)

    def _adjustments_are_what_the_oracle_says(self) -> None:
        additive = [entry for entry in self.oracle.entries if entry.metric[:3] in ("sum", "cou")]
        expected = sorted(
            (e.metric, e.customer, e.start, e.day, e.delta, e.status, e.reason) for e in additive
        )
        rows = Adjustment.objects.filter(
            tenant=self.tenant, metric__aggregation__in=["sum", "count"]
        ).values_list(
            "metric__name", "customer_ref", "period_start", "day", "delta", "status", "reason"
        )
        assert sorted(rows) == expected

    def _counters_equal_their_ledger(self) -> None:
        assert differences(self._scope()) == []

    def _reads_see_what_is_stored(self) -> None:
        for customer in CUSTOMERS:
            start, end = self.oracle.period(customer, self.now)
            period = period_of(tenant_id=self.tenant.pk, customer_ref=customer, instant=self.now)
            assert period == Period(start, end), (rfc3339(start), rfc3339(end))
            if self.oracle.review or self.oracle.frozen(customer, self.now):
                continue
            folded_now = _after(self.oracle)
            for usage in current_usage(
                tenant_id=self.tenant.pk, customer_ref=customer, period=period
            ):
                pair = folded_now.get((usage.name, customer, start), (Decimal(0), Decimal(0)))
                assert usage.total == sum(pair)

    def _the_other_tenant_never_moves(self) -> None:
        row = Counter.objects.get(tenant_id=self.other.pk)
        assert (row.sum, row.event_count, row.adjusted) == (7, 1, 0)


def _after(oracle: Oracle) -> dict[Any, tuple[Decimal, Decimal]]:
    """The totals once everything pending is folded; the oracle itself stays."""
    later = Oracle(**vars(oracle))
    later.pending, later.late = set(oracle.pending), set(oracle.late)
    later.entries = list(oracle.entries)
    later.fold()
    return later.totals()


def _play(histories: int) -> None:
    play: Callable[..., Any] = run_state_machine_as_test
    CounterMachine.world, CounterMachine.played = World(), 0
    play(
        CounterMachine,
        settings=hypothesis.settings(
            max_examples=histories,
            stateful_step_count=STEPS,
            deadline=None,
            phases=PHASES,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
    print(f"histories played: {CounterMachine.played}, steps in each: at most {STEPS}")


def test_any_history_ends_in_the_oracles_counters(db: None) -> None:
    _play(HISTORIES)


@pytest.mark.large
def test_two_thousand_histories_end_in_the_oracles_counters(db: None) -> None:
    _play(max(HISTORIES, 2_000))
