"""Current usage is exact at once: what is folded plus what is stored and not yet folded."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from counters.selectors.history import usage_history
from counters.selectors.usage import MetricUsage, current_usage, slice_totals
from counters.services import set_calendar
from counters.services.adjustments import Approver, approve_adjustment, create_adjustment
from ledger.models import Metric
from stripemeter.lib.periods import utc_month
from stripemeter.tenancy.models import Tenant
from tests.builders.ledger import NOW, fold, make_event, make_metric, store
from tests.builders.tenancy import Caller


def usage(tenant: Tenant, customer: str = "cus_1") -> dict[str, MetricUsage]:
    found = current_usage(tenant_id=tenant.pk, customer_ref=customer, period=utc_month(NOW))
    return {entry.name: entry for entry in found}


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [("sum", 12), ("count", 4), ("max", 5), ("min", 1), ("last", 4), ("unique", 3), ("average", 3)],
)
def test_a_stored_event_is_seen_before_and_after_its_fold(
    acme: Caller, globex: Caller, aggregation: str, expected: int
) -> None:
    tenant = acme.tenant
    make_metric(tenant, aggregation=aggregation)
    store(globex.tenant, make_event(100))
    store(tenant, make_event(5, resourceId="a", ts=NOW - timedelta(hours=3)))
    store(tenant, make_event(2, resourceId="b", ts=NOW - timedelta(hours=2)))
    fold()
    store(tenant, make_event(4, resourceId="a", ts=NOW - timedelta(minutes=1)))
    store(tenant, make_event(1, resourceId="c", ts=NOW - timedelta(hours=20)))
    half = usage(tenant)["api_calls"]
    assert half.total == expected
    assert half.pending_events == 2
    fold()
    whole = usage(tenant)["api_calls"]
    assert whole.total == expected
    assert whole.pending_events == 0
    assert whole.watermark == NOW - timedelta(minutes=1)


def test_events_of_other_periods_customers_and_tenants_do_not_count(
    acme: Caller, globex: Caller
) -> None:
    month = utc_month(NOW)
    for ts in (month.start - timedelta(microseconds=1), month.start, month.end):
        store(acme.tenant, make_event(10, ts=ts), now=month.end)
    store(acme.tenant, make_event(1, customer="cus_2"))
    store(globex.tenant, make_event(1))
    assert usage(acme.tenant)["api_calls"].total == 10
    fold(now=month.end)
    assert usage(acme.tenant)["api_calls"].total == 10


def test_the_days_add_up_to_the_counter(acme: Caller) -> None:
    for hours in range(0, 40, 4):
        store(acme.tenant, make_event(Decimal("0.1"), ts=NOW - timedelta(hours=hours)))
    fold()
    days = slice_totals(
        tenant_id=acme.tenant.pk,
        metric_id=Metric.objects.get().pk,
        customer_ref="cus_1",
        period_start=utc_month(NOW).start,
        aggregation="sum",
    )
    assert len(days) == 2
    assert sum(days.values()) == 1


@pytest.mark.parametrize("interval", ["minute", "hour", "day", "week", "month"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/New_York"])
def test_history_buckets_add_up_to_the_total(acme: Caller, interval: str, zone: str) -> None:
    for hours in range(0, 40, 3):
        store(acme.tenant, make_event(2, ts=NOW - timedelta(hours=hours)))
        if hours == 21:
            fold()
    since, until = NOW - timedelta(hours=60), NOW + timedelta(hours=12)
    points = usage_history(
        tenant_id=acme.tenant.pk,
        metric=Metric.objects.get(),
        customer_ref="cus_1",
        since=since,
        until=until,
        interval=interval,
        zone=zone,
    )
    assert sum(point.value for point in points) == 28


def history(tenant: Tenant, interval: str, **range_: Any) -> list[Any]:
    range_ = {"since": NOW - timedelta(days=2), "until": NOW + timedelta(hours=1), **range_}
    points = usage_history(
        tenant_id=tenant.pk, metric=Metric.objects.get(tenant=tenant), customer_ref="cus_1",
        interval=interval, **range_,
    )  # fmt: skip
    return [point.value for point in points]


@pytest.mark.parametrize("interval", ["minute", "hour", "day", "week", "month"])
@pytest.mark.parametrize("aggregation", ["last", "max", "min", "average", "unique", "count"])
def test_a_gauge_goes_down_as_well_as_up_and_may_be_zero(
    acme: Caller, aggregation: str, interval: str
) -> None:
    make_metric(acme.tenant, aggregation=aggregation)
    seats = [5, 12, 3, 0]
    for number, count in enumerate(seats):
        ts = NOW - timedelta(hours=4 - number)
        store(acme.tenant, make_event(count, ts=ts, resourceId=f"r{number % 2}"))
        if number == 1:
            fold()
    whole = {"last": 0, "max": 12, "min": 0, "average": 5, "unique": 2, "count": 4}[aggregation]
    assert usage(acme.tenant)["api_calls"].total == whole
    fold()
    assert usage(acme.tenant)["api_calls"].total == whole
    each = {"unique": [1, 1], "count": [1, 1, 1, 1]}.get(aggregation, seats)
    # The four hours lie on one day: wider buckets hold them all.
    assert history(acme.tenant, interval) == (each if interval in {"minute", "hour"} else [whole])


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/St_Johns"])
def test_buckets_of_a_period_add_up_with_corrections_on_its_first_day(
    acme: Caller, zone: str
) -> None:
    at_noon = NOW - timedelta(days=3)
    set_calendar(
        tenant_id=acme.tenant.pk, customer_ref=None, anchor=at_noon, interval="week", actor="t",
        now=NOW,
    )  # fmt: skip
    store(acme.tenant, make_event(7))
    fold()
    made = create_adjustment(
        tenant_id=acme.tenant.pk, metric="api_calls", customer_ref="cus_1", period_start=at_noon,
        day=at_noon.date(), delta=Decimal(5), reason="correction", actor="one", now=NOW,
    )  # fmt: skip
    approve_adjustment(
        tenant_id=acme.tenant.pk, adjustment_id=made.pk, approver=Approver("two"), now=NOW
    )
    week = {"since": at_noon, "until": at_noon + timedelta(days=7), "zone": zone}
    for interval in ("hour", "day", "month"):
        assert sum(history(acme.tenant, interval, **week)) == 12
    before = {"since": at_noon - timedelta(days=7), "until": at_noon, "zone": zone}
    assert history(acme.tenant, "day", **before) == []


def test_days_of_a_three_year_period_are_in_its_history(acme: Caller) -> None:
    set_calendar(
        tenant_id=acme.tenant.pk, customer_ref=None, anchor=NOW - timedelta(days=1_000),
        interval="year", interval_count=3, actor="t", now=NOW,
    )  # fmt: skip
    store(acme.tenant, make_event(7))
    fold()
    midnight = NOW.replace(hour=0)
    window = {"since": midnight - timedelta(days=1), "until": midnight + timedelta(days=1)}
    assert history(acme.tenant, "day", **window) == [7]


@pytest.mark.parametrize("interval", ["hour", "day", "month"])
def test_a_member_counts_once_in_each_period_of_each_customer(acme: Caller, interval: str) -> None:
    make_metric(acme.tenant, aggregation="unique")
    before = utc_month(NOW).start - timedelta(days=3)
    for ts in (before, before + timedelta(hours=2), NOW, NOW + timedelta(minutes=30)):
        store(acme.tenant, make_event(ts=ts, resourceId="a"), now=NOW)
        store(acme.tenant, make_event(ts=ts, resourceId="a", customer="cus_2"), now=NOW)
    store(acme.tenant, make_event(ts=NOW, resourceId="b"), now=NOW)
    for _ in ("stored", "folded"):
        assert history(acme.tenant, interval, since=before - timedelta(days=1)) == [1, 2]
        points = usage_history(
            tenant_id=acme.tenant.pk, metric=Metric.objects.get(), customer_ref=None,
            since=before - timedelta(days=1), until=NOW + timedelta(hours=1), interval=interval,
        )  # fmt: skip
        assert [point.value for point in points] == [2, 3]
        fold()
        store(acme.tenant, make_event(ts=NOW + timedelta(minutes=40), resourceId="b"), now=NOW)
