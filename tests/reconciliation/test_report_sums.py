"""Sums of newest lines: one statement says what adding them up one by one says."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any
from uuid import UUID

import pytest

from billing.models import PriceMapping
from ledger.services.registry import metric_ids
from reconciliation.models import Finding, ReportLine, Run
from reconciliation.selectors import report_sums, reports
from reconciliation.selectors.reports import Filter, Row
from reconciliation.services import closes
from stripemeter.lib.decimals import EXACT
from stripemeter.lib.periods import Period
from stripemeter.tenancy.models import Tenant
from tests.builders.tenancy import make_tenant

pytestmark = pytest.mark.django_db

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
QUARTER = Period(OCTOBER - timedelta(days=30), OCTOBER + timedelta(days=62))
CUSTOMERS = ["a", "B", "ü", "z z", "=1"]


def quantity(rng: random.Random) -> Decimal:
    """Anything that a total may be: up to 38 digits, 12 of them decimals."""
    digits = rng.choice([1, 3, 9, 26, 38])
    return Decimal(rng.randrange(10**digits) * rng.choice([1, 1, -1])).scaleb(
        -rng.choice([0, 2, 12])
    )


def compared(rng: random.Random, tenant: Tenant) -> None:
    """Three runs over the cursors of three metrics, some of them not compared every time."""
    mappings = []
    for number, (name, metric_id) in enumerate(metric_ids(tenant.pk, {"x", "y", "z"}).items()):
        mappings.append(
            PriceMapping.objects.create(
                id=UUID(int=rng.getrandbits(128)), tenant=tenant, metric_id=metric_id,
                aggregation="sum", stripe_account="default", price_id=f"price_{number}",
                unit_factor=rng.choice([Decimal(1), Decimal("0.001"), Decimal(1000)]),
                effective_from=OCTOBER, created_at=OCTOBER, updated_at=OCTOBER,
            )
        )  # fmt: skip
        assert name
    for run in range(3):
        run_id = UUID(int=rng.getrandbits(128))
        for mapping in mappings:
            for ref in CUSTOMERS:
                for start in (OCTOBER, OCTOBER + timedelta(days=31)):
                    for mode in ("live", "test"):
                        if rng.random() < 0.7:
                            line(rng, mapping, run, run_id, ref, start, mode)


def line(
    rng: random.Random, mapping: PriceMapping, run: int, run_id: UUID, ref: str,
    start: datetime, mode: str,
) -> None:  # fmt: skip
    counter = quantity(rng)
    named: dict[str, Any] = {
        "mapping_id": mapping.pk, "metric_id": mapping.metric_id, "customer_ref": ref,
        "period_start": start, "period_end": start + timedelta(days=31), "mode": mode,
    }  # fmt: skip
    ReportLine.objects.create(
        tenant_id=mapping.tenant_id, run_id=run_id, id=UUID(int=rng.getrandbits(128)),
        # Two runs of one instant: the greater id is the newer one.
        checked_at=OCTOBER + timedelta(days=40, minutes=rng.choice([run, 0])),
        unit_factor=mapping.unit_factor, ledger=quantity(rng), counter=counter, wanted=counter,
        acknowledged=quantity(rng), stripe=rng.choice([None, counter, quantity(rng)]),
        status=rng.choice(["parity", "parity", "settling", "drift", "drift", "unread"]), **named,
    )  # fmt: skip
    if rng.random() < 0.3:
        open_ = Finding.objects.filter(**named, closed_at=None).exists()
        Finding.objects.create(
            id=UUID(int=rng.getrandbits(128)), tenant_id=mapping.tenant_id, cause="unpushed",
            state=rng.choice(["open", "explained"]), units=counter,
            severity=rng.choice(["info", "warning", "critical"]), first_run_id=run_id,
            last_run_id=run_id, opened_at=OCTOBER, seen_at=OCTOBER,
            closed_at=OCTOBER if open_ or rng.random() < 0.3 else None, **named,
        )  # fmt: skip


def one_by_one(rows: list[Row]) -> report_sums.Sums:
    with localcontext(EXACT):
        return report_sums.Sums(
            sum((row.local_total for row in rows), Decimal(0)),
            sum((row.stripe_total for row in rows), Decimal(0)),
            sum((row.diff.copy_abs() for row in rows), Decimal(0)),
            len(rows),
        )


def filters_of(tenant: Tenant) -> Iterator[Filter]:
    for period in (QUARTER, Period(OCTOBER, OCTOBER + timedelta(days=31))):
        for mode in ("live", "test", None):
            yield Filter(tenant.pk, period, mode)
            for metric_id in metric_ids(tenant.pk, {"x", "y", "z"}).values():
                yield Filter(tenant.pk, period, mode, metric_id)
                yield Filter(tenant.pk, period, mode, metric_id, "ü")
    yield Filter(tenant.pk, QUARTER, "live", 0)


@pytest.mark.parametrize("seed", range(3))
def test_sums_counts_and_metrics_are_what_the_lines_one_by_one_add_up_to(seed: int) -> None:
    rng, tenants = random.Random(seed), [make_tenant("acme"), make_tenant("globex")]
    for tenant in tenants:
        compared(rng, tenant)
    for filters in (each for tenant in tenants for each in filters_of(tenant)):
        rows = list(reports.all_rows(filters))
        assert filters.metric_id != 0 or not rows
        summary = report_sums.summary(filters)
        assert summary.overall == one_by_one(rows)
        names = sorted({row.metric for row in rows})
        assert list(summary.per_metric) == names
        for name in names:
            assert summary.per_metric[name] == one_by_one([r for r in rows if r.metric == name])
        states = [row.status for row in rows]
        assert report_sums.counts(filters) == {
            "total": len(rows),
            "ok": states.count("ok"),
            "investigating": states.count("investigate"),
            "resolved": states.count("resolved"),
            "maxDiff": max((row.diff.copy_abs() for row in rows), default=Decimal(0)),
        }
        says_of_a_metric(filters, rows)


def says_of_a_metric(filters: Filter, rows: list[Row]) -> None:
    found = report_sums.metric_sums(filters, customers_max=3)
    sums = one_by_one(rows)
    assert (found.local, found.stripe) == (sums.local, sums.stripe)
    assert found.checked_at == min((row.checked_at for row in rows), default=None)
    assert found.settling == sum(row.verdict == "settling" for row in rows)
    assert found.verdicts == {row.verdict for row in rows}
    assert found.critical == any(row.critical for row in rows)
    first = list(dict.fromkeys(row.customer_ref for row in rows))[:3]
    with localcontext(EXACT):
        assert found.ledger == sum((row.ledger for row in rows), Decimal(0))
        assert list(found.customers.items()) == [
            (
                ref,
                (
                    sum((r.counter for r in rows if r.customer_ref == ref), Decimal(0)),
                    sum((r.ledger for r in rows if r.customer_ref == ref), Decimal(0)),
                ),
            )
            for ref in first
        ]


def test_a_certificate_adds_up_without_rounding() -> None:
    tenant = make_tenant("acme")
    compared(random.Random(7), tenant)
    # The run of the last line is taken for one over the whole period.
    run_id = ReportLine.objects.values_list("run_id", flat=True).last()
    run = Run.objects.create(id=run_id, tenant=tenant, requested_by="t", requested_at=OCTOBER)
    document = closes.certificate(run, QUARTER)
    lines = list(ReportLine.objects.filter(run_id=run_id))
    assert document["cursors"] == len(lines) > 10
    with localcontext(EXACT):
        for line in lines:
            same = [
                each for each in lines if (each.metric_id, each.mode) == (line.metric_id, line.mode)
            ]
            totals = document["totals"][f"{line.metric_id}/{line.mode}"]
            assert Decimal(totals["ledger"]) == sum(each.ledger for each in same)
            assert Decimal(totals["counter"]) == sum(each.counter for each in same)
