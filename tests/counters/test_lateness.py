"""Late events: one adjustment instead of the fold, and nothing ever enters a frozen period."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from counters.models import Adjustment, Counter, LateEvent
from counters.selectors.daily import daily_usage
from counters.selectors.history import usage_history
from counters.selectors.usage import current_usage
from counters.services import set_period_state
from counters.services.recompute import Scope, differences
from ledger.models import Event, Metric
from stripemeter.lib import clock
from stripemeter.lib.errors import Conflict
from stripemeter.lib.periods import utc_month
from stripemeter.tenancy.models import AuditEntry, Tenant
from tests.builders.ledger import NOW, counter_rows, fold, make_event, make_metric, store
from tests.builders.tenancy import Caller

MONTH = utc_month(NOW)
OLD = NOW - timedelta(hours=58)


def total(tenant: Tenant, metric: str = "api_calls") -> Decimal:
    found = current_usage(tenant_id=tenant.pk, customer_ref="cus_1", period=MONTH)
    return {entry.name: entry.total for entry in found}.get(metric, Decimal(0))


def consistent(tenant: Tenant) -> bool:
    ids = tuple(Metric.objects.filter(tenant=tenant).values_list("pk", flat=True))
    start = NOW - timedelta(days=900)
    return differences(Scope(tenant.pk, ids, start, NOW + timedelta(days=900))) == []


def adjustments(tenant: Tenant, *fields: str) -> list[tuple[Any, ...]]:
    return sorted(Adjustment.objects.filter(tenant=tenant).values_list(*fields))


def freeze(tenant: Tenant, instant: datetime = NOW, states: Iterable[str] = ("frozen",)) -> None:
    for state in states:
        set_period_state(
            tenant_id=tenant.pk,
            customer_ref="cus_1",
            period_start=instant,
            state=state,
            now=NOW,
        )


def test_a_late_event_becomes_one_approved_adjustment_and_the_total_moves(
    acme: Caller, globex: Caller
) -> None:
    tenant = acme.tenant
    store(tenant, make_event(10))
    store(globex.tenant, make_event(1))
    fold()
    store(tenant, make_event(3, ts=OLD), make_event(4, ts=OLD + timedelta(hours=1)))
    assert total(tenant) == 17
    fold()
    assert adjustments(tenant, "delta", "status", "reason", "day") == [
        (7, "approved", "late_event", OLD.date())
    ]
    row = Counter.objects.get(tenant_id=tenant.pk)
    assert (row.sum, row.event_count, row.adjusted) == (10, 1, 7)
    assert total(tenant) == 17
    assert LateEvent.objects.filter(tenant_id=tenant.pk).count() == 2
    assert consistent(tenant)


def test_an_event_exactly_at_the_edge_of_the_window_is_not_late(acme: Caller) -> None:
    store(acme.tenant, make_event(10))
    fold()
    edge = NOW - timedelta(hours=48)
    store(acme.tenant, make_event(1, ts=edge))
    store(acme.tenant, make_event(2, ts=edge - timedelta(microseconds=1)))
    fold()
    assert Counter.objects.get().sum == 11
    assert Counter.objects.get().adjusted == 2


def test_old_events_in_an_empty_counter_are_folded(acme: Caller) -> None:
    store(acme.tenant, make_event(1, ts=OLD))
    fold()
    store(acme.tenant, make_event(2, ts=OLD, customer="cus_2"), make_event(5, customer="cus_2"))
    fold()
    assert Adjustment.objects.count() == 0
    assert {row["sum"] for row in counter_rows(acme.tenant).values()} == {1, 7}


def test_under_review_a_late_event_waits_for_an_operator(acme: Caller) -> None:
    tenant = acme.tenant
    tenant.late_policy = "review"
    tenant.save()
    store(tenant, make_event(10))
    fold()
    store(tenant, make_event(3, ts=OLD))
    assert total(tenant) == 10
    fold()
    assert adjustments(tenant, "delta", "status") == [(3, "pending")]
    assert total(tenant) == 10
    assert consistent(tenant)


@pytest.mark.parametrize(
    ("aggregation", "expected"), [("max", 30), ("min", 3), ("last", 10), ("unique", 2)]
)
def test_aggregations_that_do_not_add_up_fold_late_events_directly(
    acme: Caller, aggregation: str, expected: int
) -> None:
    make_metric(acme.tenant, aggregation=aggregation)
    store(acme.tenant, make_event(10, resourceId="a"))
    fold()
    store(acme.tenant, make_event(30, ts=OLD, resourceId="b"))
    store(acme.tenant, make_event(3, ts=OLD, resourceId="a"))
    fold()
    assert Adjustment.objects.count() == 0
    assert total(acme.tenant) == expected
    assert consistent(acme.tenant)


def test_a_count_is_adjusted_by_the_number_of_late_events(acme: Caller) -> None:
    make_metric(acme.tenant, aggregation="count")
    store(acme.tenant, make_event(10))
    fold()
    store(acme.tenant, make_event(0, ts=OLD), make_event(7, ts=OLD, resourceId="r"))
    fold()
    assert adjustments(acme.tenant, "delta") == [(2,)]
    assert total(acme.tenant) == 3


def test_late_events_without_quantity_are_marked_and_change_nothing(acme: Caller) -> None:
    store(acme.tenant, make_event(10))
    fold()
    store(acme.tenant, make_event(0, ts=OLD))
    fold()
    assert adjustments(acme.tenant, "delta", "status") == [(0, "approved")]
    assert consistent(acme.tenant)


def test_a_metric_may_have_a_window_of_its_own(acme: Caller) -> None:
    make_metric(acme.tenant, "strict", lateness_window_hours=1)
    make_metric(acme.tenant, "lax", lateness_window_hours=100)
    for metric in ("strict", "lax"):
        store(acme.tenant, make_event(1, metric=metric))
    fold()
    store(acme.tenant, make_event(2, metric="strict", ts=NOW - timedelta(hours=2)))
    store(acme.tenant, make_event(4, metric="lax", ts=NOW - timedelta(hours=90)))
    fold()
    assert adjustments(acme.tenant, "metric__name", "delta") == [("strict", 2)]


def test_one_adjustment_per_batch_and_utc_day(acme: Caller) -> None:
    store(acme.tenant, make_event(10))
    fold()
    days = [OLD, OLD - timedelta(days=1), OLD - timedelta(days=1, hours=1)]
    store(acme.tenant, *[make_event(n + 1, ts=ts) for n, ts in enumerate(days)])
    store(acme.tenant, make_event(100, ts=OLD))
    fold()
    assert adjustments(acme.tenant, "day", "delta") == [
        ((OLD - timedelta(days=1)).date(), 5),
        (OLD.date(), 1),
        (OLD.date(), 100),
    ]
    assert Counter.objects.get().adjusted == 106


def test_nothing_enters_a_frozen_period(acme: Caller) -> None:
    tenant = acme.tenant
    store(tenant, make_event(10))
    freeze(tenant)
    before = counter_rows(tenant)
    assert before[("api_calls", "cus_1", MONTH.start)]["sum"] == 10
    store(tenant, make_event(3), make_event(4, ts=OLD))
    store(tenant, make_event(5, customer="cus_2"))
    assert total(tenant) == 10
    fold()
    after = counter_rows(tenant)
    assert {key: after[key] for key in before} == before
    assert after[("api_calls", "cus_2", MONTH.start)]["sum"] == 5
    assert adjustments(tenant, "delta", "status") == [(3, "pending"), (4, "pending")]
    assert LateEvent.objects.count() == 2
    assert consistent(tenant)


@pytest.mark.parametrize(
    ("aggregation", "delta"), [("max", 20), ("min", -7), ("last", 20), ("unique", 0)]
)
def test_a_frozen_counter_of_any_aggregation_stays(
    acme: Caller, aggregation: str, delta: int
) -> None:
    make_metric(acme.tenant, aggregation=aggregation)
    store(acme.tenant, make_event(10, resourceId="a"))
    freeze(acme.tenant)
    before = counter_rows(acme.tenant)
    quantity = 3 if aggregation == "min" else 30
    store(acme.tenant, make_event(quantity, ts=NOW + timedelta(minutes=1), resourceId="b"))
    fold()
    assert counter_rows(acme.tenant) == before
    assert adjustments(acme.tenant, "delta", "status") == [(delta, "pending")]
    assert consistent(acme.tenant)


def history(tenant: Tenant, interval: str) -> list[Decimal]:
    """The month's points alone and as one of all metrics, which must agree."""
    metric = Metric.objects.get(tenant=tenant)
    window = {"customer_ref": "cus_1", "since": MONTH.start, "until": MONTH.end}
    alone = usage_history(tenant_id=tenant.pk, metric=metric, interval=interval, **window)
    if interval == "day":
        assert daily_usage(tenant_id=tenant.pk, metrics=[metric], **window)[metric.pk] == alone
    return [point.value for point in alone]


def assert_history_adds_up_to(tenant: Tenant, aggregation: str, expected: int) -> None:
    value = {"max": max, "min": min, "last": lambda points: points[-1]}.get(aggregation, sum)
    for interval in ("hour", "day", "month"):
        assert value(history(tenant, interval)) == expected == total(tenant), interval


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [("sum", 10), ("count", 1), ("max", 10), ("min", 10), ("last", 10), ("unique", 1),
     ("average", 10)],
)  # fmt: skip
def test_late_events_of_a_frozen_period_are_in_no_history(
    acme: Caller, aggregation: str, expected: int
) -> None:
    make_metric(acme.tenant, aggregation=aggregation)
    store(acme.tenant, make_event(10, resourceId="a"))
    freeze(acme.tenant)
    store(acme.tenant, make_event(30, ts=OLD, resourceId="b"))
    store(acme.tenant, make_event(3, ts=NOW + timedelta(minutes=1), resourceId="c"))
    assert_history_adds_up_to(acme.tenant, aggregation, expected)
    fold()
    assert_history_adds_up_to(acme.tenant, aggregation, expected)


@pytest.mark.parametrize(("aggregation", "expected"), [("sum", 10), ("count", 1)])
def test_late_events_under_review_are_in_no_history(
    acme: Caller, aggregation: str, expected: int
) -> None:
    acme.tenant.late_policy = "review"
    acme.tenant.save()
    make_metric(acme.tenant, aggregation=aggregation)
    store(acme.tenant, make_event(10))
    fold()
    store(acme.tenant, make_event(30, ts=OLD), make_event(3, ts=OLD, resourceId="r"))
    assert_history_adds_up_to(acme.tenant, aggregation, expected)
    fold()
    assert_history_adds_up_to(acme.tenant, aggregation, expected)


def test_an_event_of_a_frozen_period_without_usage_is_held_too(acme: Caller) -> None:
    store(acme.tenant, make_event(1, customer="cus_2"))
    freeze(acme.tenant)
    store(acme.tenant, make_event(5))
    fold()
    assert adjustments(acme.tenant, "customer_ref", "delta", "status") == [("cus_1", 5, "pending")]
    assert total(acme.tenant) == 0


def test_an_event_at_the_end_of_a_frozen_period_belongs_to_the_next(acme: Caller) -> None:
    last = utc_month(MONTH.start - timedelta(days=1))
    store(acme.tenant, make_event(1, ts=last.start))
    freeze(acme.tenant, last.start)
    store(acme.tenant, make_event(2, ts=last.end - timedelta(microseconds=1)))
    store(acme.tenant, make_event(4, ts=last.end))
    fold()
    assert adjustments(acme.tenant, "delta") == [(2,)]
    rows = counter_rows(acme.tenant)
    assert rows[("api_calls", "cus_1", MONTH.start)]["sum"] == 4


def test_what_was_acknowledged_before_the_freeze_is_in_the_period(acme: Caller) -> None:
    store(acme.tenant, make_event(10))
    freeze(acme.tenant)
    fold()
    assert total(acme.tenant) == 10
    assert Adjustment.objects.count() == 0


def test_a_closing_period_still_counts(acme: Caller) -> None:
    freeze(acme.tenant, states=["closing"])
    store(acme.tenant, make_event(10))
    fold()
    assert total(acme.tenant) == 10


def test_states_only_grow_older_and_each_step_is_audited_once(acme: Caller) -> None:
    freeze(acme.tenant, states=["closing", "closing", "frozen", "sealed", "sealed"])
    actions = AuditEntry.objects.filter(action__startswith="period.").values_list("action")
    assert [action for (action,) in actions.order_by("sequence")] == [
        "period.closing", "period.frozen", "period.sealed",
    ]  # fmt: skip
    with pytest.raises(Conflict):
        freeze(acme.tenant, states=["open"])


def test_watermarks_never_move_back_nor_beyond_the_newest_event(acme: Caller) -> None:
    store(acme.tenant, make_event(1))
    fold()
    store(acme.tenant, make_event(1, ts=NOW - timedelta(hours=5)), make_event(1, ts=OLD))
    fold()
    assert Counter.objects.get().watermark == NOW
    store(acme.tenant, make_event(1, ts=NOW + timedelta(minutes=59)))
    fold()
    assert Counter.objects.get().watermark == NOW + timedelta(minutes=59)


def test_each_event_is_either_counted_or_late(acme: Caller) -> None:
    for hours in (0, 100, 5, 70, 49, 47, 200, 1):
        store(acme.tenant, make_event(1, ts=NOW - timedelta(hours=hours)))
        fold()
    counted = Counter.objects.get().event_count
    assert counted + LateEvent.objects.count() == Event.objects.count() == 8
    assert total(acme.tenant) == 8
    assert consistent(acme.tenant)


def test_current_usage_shows_the_late_part(acme: Caller) -> None:
    now = clock.now()
    store(acme.tenant, make_event(10, ts=now), now=now)
    fold(now)
    late = now - timedelta(hours=50)
    if utc_month(late) != utc_month(now):
        pytest.skip("the late event would lie in another month")
    store(acme.tenant, make_event(3, ts=late), now=now)
    fold(now)
    query = {"tenantId": "acme", "customerRef": "cus_1"}
    shown = Client().get("/v1/usage/current", query, headers=acme.headers).json()["metrics"][0]
    assert (shown["current"], shown["folded"], shown["adjustments"]) == (13, 10, 3)
    assert shown["late"] == {"counted": 3, "held": 0}
