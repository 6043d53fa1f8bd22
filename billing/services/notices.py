"""The outbox of webhooks, mails and Slack messages: written with what they tell, sent later."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import uuid_utils
from celery import current_app
from django.db import transaction
from kombu.exceptions import KombuError

from billing.models import Delivery, WebhookEndpoint
from billing.notices import EVENT_TYPES, is_wanted
from stripemeter.lib import strictjson
from stripemeter.lib.instants import rfc3339
from stripemeter.lib.logs import get_logger
from stripemeter.tenancy.models import Membership

log = get_logger(__name__)
DELIVER_TASK = "billing.deliver_notices"


@dataclass(frozen=True, slots=True)
class Event:
    """Something a tenant may want to know; ``data`` is JSON-able."""

    tenant_id: int
    type: str
    data: dict[str, Any]


def new_id() -> UUID:
    """A time-ordered id."""
    return UUID(bytes=uuid_utils.uuid7().bytes)


def emit(events: Sequence[Event], *, now: datetime) -> int:
    """Queue ``events`` for every endpoint that wants them; how many deliveries.

    Runs in the transaction of what it tells, so that both happen or neither.
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("emit must run in the transaction of what it tells")
    tenants = {event.tenant_id for event in events}
    if not tenants:
        return 0
    endpoints: dict[int, list[WebhookEndpoint]] = {}
    for endpoint in WebhookEndpoint.objects.filter(
        tenant_id__in=tenants, enabled=True, deleted_at__isnull=True
    ):
        endpoints.setdefault(endpoint.tenant_id, []).append(endpoint)
    return _queue(
        delivery_to(endpoint, event, message_id=message_id, now=now)
        for event in events
        for message_id in [f"msg_{new_id().hex}"]
        for endpoint in endpoints.get(event.tenant_id, ())
        if is_wanted(event.type, endpoint.event_types)
    )


def delivery_to(
    endpoint: WebhookEndpoint, event: Event, *, message_id: str, now: datetime
) -> Delivery:
    """The message for one endpoint, not stored yet."""
    assert event.type in EVENT_TYPES, event.type
    body = {"type": event.type, "timestamp": rfc3339(now), "data": event.data}
    return Delivery(
        id=new_id(),
        tenant_id=event.tenant_id,
        endpoint=endpoint,
        channel=Delivery.Channel.WEBHOOK,
        message_id=message_id,
        event_type=event.type,
        body=strictjson.dumps(body).decode("utf-8"),
        next_attempt_at=now,
        created_at=now,
    )


def mail(
    *, tenant_id: int, event_type: str, to: Iterable[str], subject: str, text: str, now: datetime
) -> int:
    """Queue one mail to ``to`` (to the tenant's owners if empty); 0 if nobody has an address."""
    receivers = [address for address in to if address] or owners_of(tenant_id)
    if not receivers:
        log.warning("notice.nobody_to_mail", tenant_id=tenant_id, event_type=event_type)
        return 0
    body = {"subject": subject.replace("\n", " ")[:200], "text": text}
    return _queue_one(tenant_id, Delivery.Channel.EMAIL, event_type, ",".join(receivers), body, now)


def slack(*, tenant_id: int, event_type: str, url: str, text: str, now: datetime) -> int:
    """Queue one message to a Slack incoming webhook."""
    body = {"text": text}
    return _queue_one(tenant_id, Delivery.Channel.SLACK, event_type, url, body, now)


def _queue_one(
    tenant_id: int, channel: str, event_type: str, target: str, body: dict[str, Any], now: datetime
) -> int:
    return _queue(
        [
            Delivery(
                id=new_id(),
                tenant_id=tenant_id,
                channel=channel,
                message_id=f"msg_{new_id().hex}",
                event_type=event_type,
                target=target[:2_000],
                body=strictjson.dumps(body).decode("utf-8"),
                next_attempt_at=now,
                created_at=now,
            )
        ]
    )


def owners_of(tenant_id: int) -> list[str]:
    """Mail addresses of the tenant's owners."""
    return list(
        Membership.objects.filter(tenant_id=tenant_id, role="owner", user__is_active=True)
        .exclude(user__email="")
        .order_by("pk")
        .values_list("user__email", flat=True)[:20]
    )


def _queue(deliveries: Iterable[Delivery]) -> int:
    rows = list(deliveries)
    if rows:
        Delivery.objects.bulk_create(rows, batch_size=500)
        transaction.on_commit(wake_deliveries)
    return len(rows)


def wake_deliveries() -> None:
    """Ask a worker to send what waits; a lost message costs one beat interval."""
    try:
        current_app.send_task(DELIVER_TASK, retry=False, ignore_result=True)
    except (KombuError, OSError) as error:
        log.warning("wakeup.lost", task=DELIVER_TASK, error=str(error))
