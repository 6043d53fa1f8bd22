"""A change of calendar re-cuts the counters it governs, and only those."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from counters.calendars import Cut
from counters.models import Adjustment, BillingCalendar, BillingPeriod, Counter
from counters.selectors.periods import cut_of, cuts_of, period_of, periods_between
from counters.services import clear_calendar, set_calendar, set_period_state
from counters.services.recompute import Scope, differences, recompute
from ledger.models import Metric
from stripemeter.lib.errors import ProblemError
from stripemeter.lib.periods import utc_month
from stripemeter.tenancy.models import AuditEntry, Tenant
from tests.builders.ledger import NOW, counter_rows, fold, make_event, make_metric, store
from tests.builders.tenancy import Caller

ANCHOR = datetime(2026, 1, 10, 6, tzinfo=UTC)


def cut(tenant: Tenant, customer: str | None = "cus_1", **more: Any) -> None:
    values = {"anchor": ANCHOR, "interval": "month", "actor": "test", "now": NOW, **more}
    set_calendar(tenant_id=tenant.pk, customer_ref=customer, **values)


def sums(tenant: Tenant) -> dict[tuple[str, str], Decimal]:
    return {
        (customer, start.strftime("%m-%d")): row["sum"] + row["adjusted"]
        for (_, customer, start), row in counter_rows(tenant).items()
    }


def consistent(tenant: Tenant) -> bool:
    ids = tuple(Metric.objects.filter(tenant=tenant).values_list("pk", flat=True))
    scope = Scope(tenant.pk, ids, NOW - timedelta(days=900), NOW + timedelta(days=900))
    found = differences(scope) == []
    before = counter_rows(tenant)
    recompute(scope)
    return found and counter_rows(tenant) == before


@pytest.mark.parametrize("seed", range(4))
def test_the_cut_of_one_customer_is_the_one_that_many_are_told(
    acme: Caller, globex: Caller, seed: int
) -> None:
    """Two statements state one rule: `cut_of` and `cuts_of`."""
    rng, refs = random.Random(seed), ["", "a", "b", "c", "nobody"]
    for tenant in (acme.tenant, globex.tenant):
        assert cut_of(tenant_id=tenant.pk, customer_ref="a") == Cut()
        for ref in [*([None] if rng.random() < 0.5 else []), "a", "b"]:
            BillingCalendar.objects.create(
                tenant=tenant, customer_ref=ref,
                anchor=ANCHOR - timedelta(hours=rng.randrange(999)),
                interval=rng.choice(["day", "week", "month", "year"]),
                interval_count=rng.randint(1, 3), zone=rng.choice(["UTC", "Europe/Berlin"]),
            )  # fmt: skip
        for ref in ["a", "b", "c"]:
            start = ANCHOR - timedelta(days=rng.randrange(99))
            for _ in range(rng.randrange(5)):
                end = start + timedelta(hours=rng.randint(1, 999))
                BillingPeriod.objects.create(
                    tenant=tenant, customer_ref=ref, span=(start, end),
                    state=rng.choice(["open", "closing", "frozen", "sealed"]),
                )  # fmt: skip
                start = end + timedelta(hours=rng.randrange(2))
        Tenant.objects.filter(pk=tenant.pk).update(has_calendars=True)
        many = cuts_of(tenant_id=tenant.pk, customers=refs)
        assert {ref: cut_of(tenant_id=tenant.pk, customer_ref=ref) for ref in refs} == many
        assert len(set(map(repr, many.values()))) > 2


def test_events_are_folded_into_the_periods_of_a_calendar(acme: Caller, globex: Caller) -> None:
    tenant = acme.tenant
    cut(tenant)
    boundary = datetime(2026, 11, 10, 6, tzinfo=UTC)
    for ts in (boundary - timedelta(microseconds=1), boundary):
        store(tenant, make_event(2, ts=ts), make_event(3, ts=ts, customer="cus_2"))
        store(globex.tenant, make_event(9, ts=ts))
    fold()
    assert sums(tenant) == {("cus_1", "10-10"): 2, ("cus_1", "11-10"): 2, ("cus_2", "11-01"): 6}
    assert sums(globex.tenant) == {("cus_1", "11-01"): 18}
    assert consistent(tenant)
    spans = BillingPeriod.objects.filter(customer_ref="cus_1").order_by("span")
    assert [row.span.lower.day for row in spans] == [10, 10]
    row = Counter.objects.get(customer_ref="cus_1", period_start=boundary)
    assert row.period_end == datetime(2026, 12, 10, 6, tzinfo=UTC)


@pytest.mark.parametrize("aggregation", ["sum", "max", "last", "unique"])
def test_a_new_calendar_moves_what_was_folded(acme: Caller, aggregation: str) -> None:
    make_metric(acme.tenant, aggregation=aggregation)
    for days in (0, 4, 8, 12, 30):
        ts = NOW - timedelta(days=days)
        store(acme.tenant, make_event(days + 1, ts=ts, resourceId=f"r{days % 8}"))
        store(acme.tenant, make_event(1, ts=ts, customer="cus_2"))
    fold()
    other = {key: row for key, row in counter_rows(acme.tenant).items() if key[1] == "cus_2"}
    store(acme.tenant, make_event(7, ts=NOW - timedelta(hours=1)))
    cut(acme.tenant)
    assert consistent(acme.tenant)
    fold()
    assert consistent(acme.tenant)
    rows = counter_rows(acme.tenant)
    starts = sorted(start.day for (_, customer, start) in rows if customer == "cus_1")
    assert starts == [10, 10]
    assert {key: row for key, row in rows.items() if key[1] == "cus_2"} == other


def test_a_tenants_default_governs_customers_without_a_calendar(acme: Caller) -> None:
    cut(acme.tenant, "cus_2", interval="day")
    for customer in ("cus_1", "cus_2"):
        store(acme.tenant, make_event(1, customer=customer))
    fold()
    cut(acme.tenant, None, interval="year")
    assert sums(acme.tenant) == {("cus_1", "01-10"): 1, ("cus_2", "11-15"): 1}
    clear_calendar(tenant_id=acme.tenant.pk, customer_ref="cus_2", actor="test", now=NOW)
    assert sums(acme.tenant) == {("cus_1", "01-10"): 1, ("cus_2", "01-10"): 1}
    clear_calendar(tenant_id=acme.tenant.pk, customer_ref=None, actor="test", now=NOW)
    assert sums(acme.tenant) == {("cus_1", "11-01"): 1, ("cus_2", "11-01"): 1}
    assert consistent(acme.tenant)


def test_late_adjustments_move_with_their_day(acme: Caller) -> None:
    store(acme.tenant, make_event(10))
    fold()
    store(acme.tenant, make_event(3, ts=NOW - timedelta(days=9)))
    fold()
    assert Adjustment.objects.get().period_start == utc_month(NOW).start
    cut(acme.tenant)
    assert sums(acme.tenant) == {("cus_1", "10-10"): 3, ("cus_1", "11-10"): 10}
    assert consistent(acme.tenant)


def test_frozen_periods_keep_their_bounds_and_their_counters(acme: Caller) -> None:
    tenant = acme.tenant
    october = utc_month(NOW - timedelta(days=20))
    for days in (0, 8, 20, 40, 50):
        store(tenant, make_event(days + 1, ts=NOW - timedelta(days=days)))
    set_period_state(
        tenant_id=tenant.pk, customer_ref="cus_1", period_start=october.start, state="frozen",
        now=NOW,
    )  # fmt: skip
    before = Counter.objects.filter(period_start=october.start).values().get()
    cut(tenant)
    assert Counter.objects.filter(period_start=october.start).values().get() == before
    shown = periods_between(
        tenant_id=tenant.pk, customer_ref="cus_1", since=NOW - timedelta(days=60), until=NOW
    )
    assert [(entry.period.start.strftime("%m-%d"), entry.state) for entry in shown] == [
        ("09-10", "open"), ("10-01", "frozen"), ("11-01", "open"), ("11-10", "open"),
    ]  # fmt: skip
    assert all(one.period.end == two.period.start for one, two in pairwise(shown))
    assert consistent(tenant)


def test_revisions_grow_over_a_recut(acme: Caller) -> None:
    for _ in range(3):
        store(acme.tenant, make_event(1, resourceId=str(_)))
        fold()
    before = Counter.objects.get().revision
    cut(acme.tenant, anchor=datetime(2026, 11, 1, tzinfo=UTC), interval_count=2)
    assert Counter.objects.get().revision > before


def test_setting_the_same_calendar_again_changes_nothing(acme: Caller) -> None:
    store(acme.tenant, make_event(1))
    fold()
    cut(acme.tenant)
    rows = list(Counter.objects.values())
    cut(acme.tenant)
    assert list(Counter.objects.values()) == rows
    assert AuditEntry.objects.filter(action="calendar.set").count() == 1


@pytest.mark.parametrize(
    "values",
    [
        {"interval": "fortnight"},
        {"interval_count": 0},
        {"interval_count": 37},
        {"zone": "Mars/Olympus"},
        {"zone": "../etc/passwd"},
    ],
)
def test_a_calendar_that_makes_no_sense_is_refused(acme: Caller, values: dict[str, Any]) -> None:
    with pytest.raises(ProblemError):
        cut(acme.tenant, **values)


def test_the_database_refuses_periods_that_overlap(acme: Caller) -> None:
    cut(acme.tenant)
    store(acme.tenant, make_event(1))
    fold()
    row = BillingPeriod.objects.get()
    row.pk = None
    row.span = type(row.span)(row.span.lower + timedelta(days=1), row.span.upper, "[)")
    with pytest.raises(IntegrityError), transaction.atomic():
        row.save(force_insert=True)


def test_a_period_follows_the_zone_of_its_calendar(acme: Caller) -> None:
    anchor = datetime(2026, 1, 31, 23, tzinfo=UTC)  # midnight of 1 February in Berlin
    cut(acme.tenant, anchor=anchor, zone="Europe/Berlin")
    period = period_of(
        tenant_id=acme.tenant.pk,
        customer_ref="cus_1",
        instant=datetime(2026, 7, 15, tzinfo=UTC),
    )
    assert period.start == datetime(2026, 6, 30, 22, tzinfo=UTC)
    assert period.end == datetime(2026, 7, 31, 22, tzinfo=UTC)


def test_late_rules_hold_in_calendar_periods(acme: Caller) -> None:
    cut(acme.tenant)
    store(acme.tenant, make_event(10))
    fold()
    store(acme.tenant, make_event(3, ts=NOW - timedelta(hours=60)), make_event(1))
    fold()
    adjustment = Adjustment.objects.get()
    assert (adjustment.delta, adjustment.period_start) == (
        3,
        datetime(2026, 11, 10, 6, tzinfo=UTC),
    )
    assert consistent(acme.tenant)
