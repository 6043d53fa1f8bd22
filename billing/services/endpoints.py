"""Writes of webhook endpoints. Each leaves one audit row; a secret is shown once."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction

from billing.models import Delivery, WebhookEndpoint
from billing.notices import EVENT_TYPES, FAMILIES, secret_of
from billing.services import deliveries, notices
from billing.services.mappings import Actor
from stripemeter.lib import outbound
from stripemeter.lib.errors import Conflict, NotFound, invalid
from stripemeter.tenancy import audit

ENDPOINTS_MAX = 20
OVERLAP = timedelta(hours=24)
OVERLAP_MAX = timedelta(days=7)


def _check(url: str, event_types: Sequence[str]) -> None:
    try:
        outbound.check_url(url)
    except outbound.Refused as error:
        raise invalid("url", str(error), code="invalid_url") from error
    for position, name in enumerate(event_types):
        if name not in EVENT_TYPES and name not in FAMILIES:
            raise invalid(
                "eventTypes", f"{name} is no event type", code="unknown_event_type", index=position
            )
    if not event_types:
        raise invalid("eventTypes", "must name at least one", code="required")


def _described(endpoint: WebhookEndpoint) -> dict[str, Any]:
    return {
        "url": endpoint.url,
        "description": endpoint.description,
        "eventTypes": list(endpoint.event_types),
        "enabled": endpoint.enabled,
        "secretVersion": endpoint.secret_version,
    }


def _audit(
    actor: Actor, verb: str, endpoint: WebhookEndpoint, before: dict[str, Any] | None
) -> None:
    audit.record(
        tenant_id=actor.tenant_id,
        actor=actor.name,
        action=f"webhook_endpoint.{verb}",
        object_type="webhook_endpoint",
        object_id=endpoint.pk,
        now=actor.now,
        before=before,
        after=_described(endpoint),
    )


@transaction.atomic
def create_endpoint(
    *, actor: Actor, url: str, event_types: Sequence[str], description: str = ""
) -> tuple[WebhookEndpoint, str]:
    """A new endpoint and its signing secret. Raises `InvalidRequest`, `Conflict`."""
    _check(url, event_types)
    known = WebhookEndpoint.objects.filter(tenant_id=actor.tenant_id, deleted_at__isnull=True)
    if known.count() >= ENDPOINTS_MAX:
        raise Conflict(f"A tenant has at most {ENDPOINTS_MAX} endpoints.", code="too_many")
    endpoint = WebhookEndpoint.objects.create(
        id=notices.new_id(),
        tenant_id=actor.tenant_id,
        url=url,
        description=description,
        event_types=list(event_types),
        created_by=actor.name,
        created_at=actor.now,
        updated_at=actor.now,
    )
    _audit(actor, "created", endpoint, None)
    return endpoint, secret_of(endpoint.pk, endpoint.secret_version)


@transaction.atomic
def update_endpoint(*, actor: Actor, endpoint_id: UUID, changes: dict[str, Any]) -> WebhookEndpoint:
    """Change url, description, event_types or enabled. Raises `NotFound`, `InvalidRequest`."""
    endpoint = _locked(actor.tenant_id, endpoint_id)
    before = _described(endpoint)
    for name, value in changes.items():
        setattr(endpoint, name, value)
    _check(endpoint.url, endpoint.event_types)
    if endpoint.enabled and not before["enabled"]:
        endpoint.disabled_at, endpoint.disabled_reason = None, ""
    if before["enabled"] and not endpoint.enabled:
        endpoint.disabled_at = actor.now
        deliveries.cancel_waiting(endpoint_id=endpoint.pk, reason="the endpoint was switched off")
    endpoint.updated_at = actor.now
    endpoint.save()
    _audit(actor, "updated", endpoint, before)
    return endpoint


@transaction.atomic
def rotate_secret(
    *, actor: Actor, endpoint_id: UUID, overlap: timedelta = OVERLAP
) -> tuple[WebhookEndpoint, str]:
    """A new secret; for ``overlap`` messages carry a signature of the old one as well."""
    if not timedelta(0) <= overlap <= OVERLAP_MAX:
        raise invalid("overlapSeconds", "may be at most 7 days", code="out_of_range")
    endpoint = _locked(actor.tenant_id, endpoint_id)
    before = _described(endpoint)
    endpoint.secret_version += 1
    endpoint.previous_until = actor.now + overlap
    endpoint.updated_at = actor.now
    endpoint.save()
    _audit(actor, "rotated", endpoint, before)
    return endpoint, secret_of(endpoint.pk, endpoint.secret_version)


@transaction.atomic
def delete_endpoint(*, actor: Actor, endpoint_id: UUID) -> None:
    """Nothing more is sent there; the log stays. Raises `NotFound`."""
    endpoint = _locked(actor.tenant_id, endpoint_id)
    before = _described(endpoint)
    endpoint.enabled, endpoint.deleted_at, endpoint.updated_at = False, actor.now, actor.now
    endpoint.save()
    deliveries.cancel_waiting(endpoint_id=endpoint.pk, reason="the endpoint was deleted")
    _audit(actor, "deleted", endpoint, before)


@transaction.atomic
def send_test(*, actor: Actor, endpoint_id: UUID) -> Delivery:
    """Queue a `webhook.test` message for this endpoint alone, also while it is switched off."""
    endpoint = _locked(actor.tenant_id, endpoint_id)
    data = {"endpointId": str(endpoint.pk), "requestedBy": actor.name}
    event = notices.Event(actor.tenant_id, "webhook.test", data)
    delivery = notices.delivery_to(
        endpoint, event, message_id=f"msg_{notices.new_id().hex}", now=actor.now
    )
    delivery.save(force_insert=True)
    _audit(actor, "tested", endpoint, None)
    transaction.on_commit(notices.wake_deliveries)
    return delivery


def _locked(tenant_id: int, endpoint_id: UUID) -> WebhookEndpoint:
    found = (
        WebhookEndpoint.objects.select_for_update()
        .filter(tenant_id=tenant_id, pk=endpoint_id, deleted_at__isnull=True)
        .first()
    )
    if found is None:
        raise NotFound("No such webhook endpoint")
    return found
