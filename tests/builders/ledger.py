"""Events with fixed values, stored and folded without HTTP."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from counters.models import Counter
from counters.services.fold import fold_everything
from ledger import wire
from ledger.models import Metric
from ledger.services.ingest import Outcome, ingest
from stripemeter.lib.instants import rfc3339
from stripemeter.tenancy.models import Tenant

#: The middle of a month, so that a test can look both ways.
NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)
LIMITS = wire.Limits(
    batch_max=1_000, meta_bytes_max=4_096, quantity_digits_max=15, quantity_decimals_max=6
)


def make_event(
    quantity: Any = 1,
    *,
    metric: str = "api_calls",
    customer: str = "cus_1",
    ts: datetime = NOW,
    **more: Any,
) -> dict[str, Any]:
    """An event in the native shape, without ``tenantId`` (`store` adds it)."""
    return {
        "metric": metric,
        "customerRef": customer,
        "quantity": quantity,
        "ts": rfc3339(ts),
        **more,
    }


def store(tenant: Tenant, *events: dict[str, Any], now: datetime = NOW) -> Outcome:
    """Ingest ``events`` as one batch."""
    document = {"events": [{"tenantId": tenant.key, **event} for event in events]}
    columns = wire.read_strict(document, tenant_key=tenant.key, limits=LIMITS)
    return ingest(
        tenant_id=tenant.pk,
        columns=columns,
        now=now,
        future_tolerance=timedelta(hours=1),
        meta_bytes_max=LIMITS.meta_bytes_max,
    )


def fold(now: datetime = NOW) -> int:
    """Fold everything that is pending."""
    return fold_everything(now=now)


def make_metric(tenant: Tenant, name: str = "api_calls", **fields: Any) -> Metric:
    """A configured metric."""
    return Metric.objects.create(tenant=tenant, name=name, **{"configured": True, **fields})


AGGREGATES = ("sum", "event_count", "max", "min", "last", "last_ts", "unique_count")


def counter_rows(tenant: Tenant, *, but: Sequence[str] = ()) -> dict[tuple[Any, ...], Any]:
    """All counters of the tenant by (metric, customer, period start): aggregates, adjusted."""
    names = {metric.pk: metric.name for metric in Metric.objects.filter(tenant=tenant)}
    fields = [name for name in (*AGGREGATES, "adjusted") if name not in but]
    return {
        (names[row.metric_id], row.customer_ref, row.period_start): {
            name: getattr(row, name) for name in fields
        }
        for row in Counter.objects.filter(tenant_id=tenant.pk)
    }


def only_sum(tenant: Tenant) -> Decimal:
    """The sum of the tenant's one counter."""
    return Counter.objects.get(tenant_id=tenant.pk).sum
