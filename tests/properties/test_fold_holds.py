"""Order, duplication and batching of events do not matter; fold equals recompute."""

from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from counters.models import DailyRollup
from counters.services.recompute import Scope, differences, recompute
from ledger.models import Metric
from stripemeter.tenancy.models import Tenant
from tests.builders.ledger import NOW, counter_rows, fold, make_event, make_metric, store
from tests.builders.tenancy import make_tenant
from tests.properties.support import ROLLED_BACK, fresh_tables

AGGREGATIONS = ("sum", "count", "max", "min", "last", "unique", "average")

events = st.lists(
    st.builds(
        lambda number, metric, customer, quantity, hours, member: make_event(
            quantity,
            metric=metric,
            customer=customer,
            ts=NOW - timedelta(hours=hours),
            resourceId=member,
            idempotencyKey=f"k{number}",
        ),
        number=st.integers(0, 60),
        metric=st.sampled_from(AGGREGATIONS),
        customer=st.sampled_from(["cus_1", "cus_2"]),
        quantity=st.decimals(0, 1000, places=3, allow_nan=False),
        # Both sides of midnight, younger than any lateness window.
        hours=st.integers(0, 40),
        member=st.sampled_from(["a", "b", "c"]),
    ),
    min_size=1,
    max_size=25,
    unique_by=lambda event: event["idempotencyKey"],
)


def _tenant() -> Tenant:
    tenant = make_tenant()
    for aggregation in AGGREGATIONS:
        make_metric(tenant, aggregation, aggregation=aggregation)
    return tenant


def _totals(batches: list[list[dict[str, Any]]], fold_after: set[int]) -> Any:
    """Counters after the batches, folding after some of them and at the end."""
    with fresh_tables():
        tenant = _tenant()
        for number, batch in enumerate(batches):
            store(tenant, *batch)
            if number in fold_after:
                fold()
        fold()
        scope = whole(tenant)
        assert differences(scope) == []
        rolled = list(DailyRollup.objects.order_by("pk").values_list("day", "sum", "last"))
        return counter_rows(tenant, but=["last_ts"]), rolled


def whole(tenant: Tenant) -> Scope:
    """Every counter of the tenant."""
    ids = tuple(Metric.objects.filter(tenant=tenant).values_list("pk", flat=True))
    return Scope(
        tenant.pk, ids, NOW - timedelta(days=4_000), NOW + timedelta(days=400), customers=None
    )


@settings(max_examples=40, suppress_health_check=ROLLED_BACK)
@given(events, st.data())
def test_any_order_duplication_and_batching_gives_the_same_counters(
    db: None, stream: list[dict[str, Any]], data: st.DataObject
) -> None:
    # `last` breaks ties of the time by arrival, so its events have times of their own.
    times: set[str] = set()
    stream = [e for e in stream if not (e["ts"] in times or times.add(e["ts"]))]
    expected = _totals([stream], set())
    again = data.draw(st.permutations(stream + data.draw(st.lists(st.sampled_from(stream)))))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(again)), max_size=5)) | {0, len(again)})
    batches = [again[one:two] for one, two in pairwise(cuts)]
    folds = data.draw(st.sets(st.integers(0, len(batches))))
    assert _totals(batches, folds) == expected


@settings(max_examples=40, suppress_health_check=ROLLED_BACK)
@given(events, st.integers(0, 25))
def test_recompute_equals_fold_bit_for_bit(
    db: None, stream: list[dict[str, Any]], cut: int
) -> None:
    with fresh_tables():
        tenant, other = _tenant(), make_tenant("globex")
        store(other, make_event(7))
        for batch in (stream[:cut], stream[cut:]):
            if batch:
                store(tenant, *batch)
                fold()
        rollups = list(DailyRollup.objects.order_by("pk").values())
        before, foreign = counter_rows(tenant), counter_rows(other)
        recompute(whole(tenant))
        assert counter_rows(tenant) == before
        assert list(DailyRollup.objects.order_by("pk").values()) == rollups
        assert counter_rows(other) == foreign
        assert differences(whole(tenant)) == []


@settings(max_examples=30, suppress_health_check=ROLLED_BACK)
@given(events)
def test_folded_totals_equal_plain_arithmetic(db: None, stream: list[dict[str, Any]]) -> None:
    with fresh_tables():
        tenant = _tenant()
        store(tenant, *stream)
        fold()
        for (metric, customer, _), row in counter_rows(tenant).items():
            mine = [e for e in stream if (e["metric"], e["customerRef"]) == (metric, customer)]
            quantities = [Decimal(event["quantity"]) for event in mine]
            assert row["sum"] == sum(quantities)
            assert row["event_count"] == len(quantities)
            assert row["max"] == max(quantities)
            assert row["min"] == min(quantities)
            if metric == "unique":
                assert row["unique_count"] == len({event["resourceId"] for event in mine})
            if metric == "last":
                newest = max(event["ts"] for event in mine)
                assert row["last"] in {
                    Decimal(event["quantity"]) for event in mine if event["ts"] == newest
                }
