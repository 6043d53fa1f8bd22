"""All metrics at once give what each gives alone."""

from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest

from counters.selectors.daily import daily_usage
from counters.selectors.history import usage_history
from counters.services import set_calendar
from counters.services.adjustments import Approver, approve_adjustment, create_adjustment
from stripemeter.lib.periods import utc_month
from tests.builders.ledger import NOW, fold, make_event, make_metric, store
from tests.builders.tenancy import make_tenant

pytestmark = pytest.mark.django_db


def test_the_days_of_all_metrics_are_those_of_each() -> None:
    acme, globex = make_tenant("acme"), make_tenant("globex")
    kinds = ("sum", "count", "max", "min", "last", "unique", "average")
    metrics = [make_metric(acme, kind, aggregation=kind) for kind in kinds]
    for back in (5, 4, 4, 1, 0, 0):
        then = NOW - timedelta(days=back, minutes=back)
        for tenant in (acme, globex):
            events = [
                make_event(3 + back * 7, metric=kind, ts=then, resourceId=f"r{back}",
                           idempotencyKey=str(uuid4()))
                for kind in kinds
            ]  # fmt: skip
            store(tenant, *events, now=NOW)
        if back:
            fold(NOW)
    made = create_adjustment(
        tenant_id=acme.pk, metric="sum", customer_ref="cus_1", period_start=NOW,
        delta=Decimal(-2), reason="correction", actor="a", now=NOW,
    )  # fmt: skip
    approve_adjustment(tenant_id=acme.pk, adjustment_id=made.pk, approver=Approver("b"), now=NOW)
    period = utc_month(NOW)
    found = daily_usage(
        tenant_id=acme.pk, metrics=metrics, customer_ref="cus_1", since=period.start,
        until=period.end,
    )  # fmt: skip
    for metric in metrics:
        alone = usage_history(
            tenant_id=acme.pk, metric=metric, customer_ref="cus_1", since=period.start,
            until=period.end, interval="day",
        )  # fmt: skip
        assert found[metric.pk] == alone, metric.name


def test_days_of_a_three_year_period_are_there() -> None:
    acme = make_tenant("acme")
    metric = make_metric(acme)
    set_calendar(
        tenant_id=acme.pk, customer_ref=None, anchor=NOW - timedelta(days=1_000), interval="year",
        interval_count=3, actor="t", now=NOW,
    )  # fmt: skip
    store(acme, make_event(7))
    fold()
    month = utc_month(NOW)
    found = daily_usage(
        tenant_id=acme.pk, metrics=[metric], customer_ref="cus_1", since=month.start,
        until=month.end,
    )  # fmt: skip
    assert [point.value for point in found[metric.pk]] == [7]
