"""Reads of adjustments."""

from datetime import datetime
from uuid import UUID

from counters.models import Adjustment
from stripemeter.lib.errors import NotFound


def adjustments(
    *,
    tenant_id: int,
    limit: int,
    metric: str | None = None,
    customer_ref: str | None = None,
    status: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before: tuple[datetime, UUID] | None = None,
) -> list[Adjustment]:
    """Adjustments of the tenant, newest first; ``since`` and ``until`` bound the period start."""
    rows = Adjustment.objects.filter(tenant_id=tenant_id).select_related("metric", "tenant")
    if metric is not None:
        rows = rows.filter(metric__name=metric)
    if customer_ref is not None:
        rows = rows.filter(customer_ref=customer_ref)
    if status is not None:
        rows = rows.filter(status=status)
    if since is not None:
        rows = rows.filter(period_start__gte=since)
    if until is not None:
        rows = rows.filter(period_start__lt=until)
    if before is not None:
        created_at, last_id = before
        rows = rows.filter(created_at__lte=created_at).exclude(
            created_at=created_at, id__gte=last_id
        )
    return list(rows.order_by("-created_at", "-id")[:limit])


def adjustment(*, tenant_id: int, adjustment_id: UUID) -> Adjustment:
    """One adjustment. Raises `NotFound`, also for those of other tenants."""
    rows = Adjustment.objects.select_related("metric", "tenant")
    found = rows.filter(tenant_id=tenant_id, id=adjustment_id).first()
    if found is None:
        raise NotFound()
    return found
