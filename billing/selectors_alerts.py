"""Reads of alerts, endpoints and deliveries."""

from datetime import datetime
from uuid import UUID

from django.db.models import Count, Q, QuerySet

from billing.models import AlertEvent, AlertRule, AlertState, Delivery, WebhookEndpoint
from stripemeter.lib.errors import NotFound

#: A tenant may have more; the list ends there.
RULES_SHOWN_MAX = 5_000


def alert_rules(
    *, tenant_id: int, customer_ref: str | None = None, enabled: bool | None = None
) -> QuerySet[AlertRule]:
    """The tenant's rules that were not deleted, oldest first."""
    found = AlertRule.objects.filter(tenant_id=tenant_id, deleted_at__isnull=True)
    if customer_ref:
        found = found.filter(customer_ref=customer_ref)
    if enabled is not None:
        found = found.filter(enabled=enabled)
    return found.select_related("tenant", "metric").order_by("created_at", "pk")[:RULES_SHOWN_MAX]


def alert_events(
    *,
    tenant_id: int,
    customer_ref: str | None,
    status: str,
    since: datetime | None,
    until: datetime | None,
    limit: int,
) -> QuerySet[AlertEvent]:
    """Notices given, newest first."""
    found = AlertEvent.objects.filter(tenant_id=tenant_id)
    if customer_ref:
        found = found.filter(customer_ref=customer_ref)
    if status:
        found = found.filter(status=status)
    if since is not None:
        found = found.filter(recorded_at__gte=since)
    if until is not None:
        found = found.filter(recorded_at__lte=until)
    return found.select_related("tenant").order_by("-recorded_at", "-pk")[:limit]


def alert_states(
    *,
    tenant_id: int,
    customer_ref: str | None = None,
    metric: str | None = None,
    status: str = "",
    severity: str = "",
    title: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> QuerySet[AlertState]:
    """States that match, in no order."""
    found = AlertState.objects.filter(tenant_id=tenant_id)
    for name, value in (
        ("customer_ref", customer_ref),
        ("metric", metric),
        ("status", status),
        ("severity", severity),
        ("title__icontains", title),
    ):
        if value:
            found = found.filter(**{name: value})
    if since is not None:
        found = found.filter(created_at__gte=since)
    if until is not None:
        found = found.filter(updated_at__lte=until)
    return found.select_related("tenant")


def open_alert_counts(*, tenant_id: int) -> dict[str, int]:
    """Triggered states by severity."""
    found = AlertState.objects.filter(tenant_id=tenant_id, status=AlertState.Status.TRIGGERED)
    return dict(found.values_list("severity").annotate(number=Count("pk")).order_by("severity"))


def alerts_of_customer(*, tenant_id: int, customer_ref: str, now: datetime) -> list[AlertState]:
    """What holds for the customer now: states of running periods that nobody resolved."""
    found = AlertState.objects.filter(
        Q(bucket_end__isnull=True) | Q(bucket_start__lte=now, bucket_end__gt=now),
        tenant_id=tenant_id,
        customer_ref=customer_ref,
    ).exclude(status=AlertState.Status.RESOLVED)
    return list(found.select_related("rule").order_by("-triggered_at")[:50])


def webhook_endpoints(*, tenant_id: int) -> QuerySet[WebhookEndpoint]:
    """The tenant's endpoints, oldest first."""
    return (
        WebhookEndpoint.objects.filter(tenant_id=tenant_id, deleted_at__isnull=True)
        .select_related("tenant")
        .order_by("created_at", "pk")
    )


def webhook_endpoint(*, tenant_id: int, endpoint_id: UUID) -> WebhookEndpoint:
    """One endpoint. Raises `NotFound`."""
    found = webhook_endpoints(tenant_id=tenant_id).filter(pk=endpoint_id).first()
    if found is None:
        raise NotFound("No such webhook endpoint")
    return found


def deliveries(
    *, tenant_id: int, endpoint_id: UUID | None = None, status: str = "", after: UUID | None = None
) -> QuerySet[Delivery]:
    """Deliveries, newest first (ids are ordered by time)."""
    found = Delivery.objects.filter(tenant_id=tenant_id)
    if endpoint_id is not None:
        found = found.filter(endpoint_id=endpoint_id)
    if status:
        found = found.filter(status=status)
    if after is not None:
        found = found.filter(pk__lt=after)
    return found.select_related("endpoint").order_by("-pk")


def delivery(*, tenant_id: int, delivery_id: UUID) -> Delivery:
    """One delivery. Raises `NotFound`."""
    found = deliveries(tenant_id=tenant_id).filter(pk=delivery_id).first()
    if found is None:
        raise NotFound("No such delivery")
    return found
