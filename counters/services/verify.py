"""Compares counters with the ledger, all or a sample, and says so where people look.

The last result is kept (`Verification`): the gauge ``counter_differences``, a log event and
the operators' tile read it.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random

from django.db import transaction

from counters.models import Counter, Verification
from counters.services.recompute import Difference, Scope, differences
from counters.services.replay import Window, apply_replay
from ledger.models import Metric
from ledger.services import partitions
from stripemeter.lib import metrics
from stripemeter.lib.logs import get_logger
from stripemeter.lib.periods import Period
from stripemeter.tenancy.models import Tenant

log = get_logger(__name__)

FIRST, LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Findings:
    """Counters that differ, by tenant key."""

    by_tenant: dict[str, list[Difference]] = field(default_factory=dict)
    repaired: int = 0
    #: How many still differ after a repair, by tenant number.
    left: dict[int, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many counters differ."""
        return sum(map(len, self.by_tenant.values()))


def verify_counters(
    *,
    now: datetime,
    tenant_key: str | None = None,
    sample: int | None = None,
    repair: bool = False,
    seed: int | None = None,
) -> Findings:
    """Compare the counters of every tenant (or of one) with the ledger.

    ``sample`` compares the counters of so many customers of each tenant, drawn by ``seed``.
    ``repair`` replays what differs; frozen counters are reported and stay.
    """
    findings = Findings()
    tenants = Tenant.objects.order_by("pk")
    if tenant_key is not None:
        tenants = tenants.filter(key=tenant_key)
    for tenant in tenants:
        found = _still_in_the_ledger(differences(_scope(tenant, sample, seed), limit=None))
        if not found:
            continue
        findings.by_tenant[tenant.key] = found
        log.error("counters.differ", tenant=tenant.key, counters=len(found))
        repaired = _repair(tenant, found, now) if repair else 0
        findings.repaired += repaired
        if len(found) > repaired:
            findings.left[tenant.pk] = len(found) - repaired
    metrics.counter_differences.set(findings.count)
    _keep(findings, now=now, whole=sample is None and tenant_key is None)
    return findings


def _still_in_the_ledger(found: list[Difference]) -> list[Difference]:
    """Without the frozen counters whose events were exported and dropped on purpose."""
    return [
        row
        for row in found
        if not (row.frozen and partitions.dropped(Period(row.period_start, row.period_end)))
    ]


def _scope(tenant: Tenant, sample: int | None, seed: int | None) -> Scope:
    metric_ids = tuple(Metric.objects.filter(tenant=tenant).values_list("pk", flat=True))
    customers = None
    if sample is not None:
        rows = Counter.objects.filter(tenant_id=tenant.pk).order_by("customer_ref")
        refs = sorted(set(rows.values_list("customer_ref", flat=True)))
        random = Random(seed)  # noqa: S311  a sample, not a secret
        customers = tuple(random.sample(refs, min(sample, len(refs))))
    return Scope(tenant.pk, metric_ids, FIRST, LAST, customers=customers)


def _repair(tenant: Tenant, found: list[Difference], now: datetime) -> int:
    window = Window(
        tenant.pk,
        (),
        min(row.period_start for row in found),
        max(row.period_end for row in found),
        customers=tuple({row.customer_ref for row in found}),
    )
    report = apply_replay(window, actor="system:verify_counters", now=now)
    return report.counters_changed


@transaction.atomic
def _keep(findings: Findings, *, now: datetime, whole: bool) -> None:
    Verification.objects.create(
        finished_at=now,
        differences=findings.count,
        repaired=findings.repaired,
        left={str(tenant_id): count for tenant_id, count in findings.left.items()},
        whole=whole,
    )
