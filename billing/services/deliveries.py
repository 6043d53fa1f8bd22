"""Sends what waits in the outbox: claim, call without a transaction, record, give up at last."""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db import transaction
from django.db.models import Q

from billing.models import Delivery, DeliveryAttempt, WebhookEndpoint
from billing.notices import secret_of, signed_headers
from billing.services import notices
from stripemeter.lib import outbound, strictjson
from stripemeter.lib.errors import Conflict, NotFound
from stripemeter.lib.instants import rfc3339
from stripemeter.lib.logs import get_logger
from stripemeter.lib.outbound import Answer
from stripemeter.tenancy import audit

log = get_logger(__name__)

#: Waits after each failed try; twelve tries over about two days.
WAITS = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 28_800, 43_200, 72_000)
)
ATTEMPTS_MAX = len(WAITS) + 1
LEASE = timedelta(seconds=90)
CLAIM_MAX, THREADS = 64, 8
MAIL_SECONDS = 15
#: The receiver says that it is gone for good.
GONE = 410


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery taken for one try, with what is needed to send it."""

    delivery: Delivery
    number: int
    url: str
    secrets: tuple[str, ...]


def deliver_due(*, now: datetime) -> int:
    """Send everything that is due; how many tries were made. Any number of these may run."""
    tried = 0
    while claimed := _claim(now):
        with ThreadPoolExecutor(THREADS) as pool:
            answers = list(pool.map(lambda each: _send(each, now), claimed))
        for each, answer in zip(claimed, answers, strict=True):
            _record(each, answer, now)
        tried += len(claimed)
    return tried


@transaction.atomic
def _claim(now: datetime) -> list[Claimed]:
    rows = list(
        Delivery.objects.select_for_update(of=("self",), skip_locked=True)
        .select_related("endpoint")
        .filter(
            Q(lease_until__isnull=True) | Q(lease_until__lt=now),
            status=Delivery.Status.PENDING,
            next_attempt_at__lte=now,
        )
        .order_by("next_attempt_at", "pk")[:CLAIM_MAX]
    )
    for row in rows:
        row.attempts += 1
        row.lease_until = now + LEASE
        row.save(update_fields=["attempts", "lease_until"])
    return [_claimed(row, now) for row in rows]


def _claimed(row: Delivery, now: datetime) -> Claimed:
    endpoint = row.endpoint
    if endpoint is None:
        return Claimed(row, row.attempts, row.target, ())
    secrets = [secret_of(endpoint.pk, endpoint.secret_version)]
    if endpoint.previous_until is not None and endpoint.previous_until > now:
        secrets.append(secret_of(endpoint.pk, endpoint.secret_version - 1))
    return Claimed(row, row.attempts, endpoint.url, tuple(secrets))


def _send(claimed: Claimed, now: datetime) -> Answer:
    """One try; touches no database, so that threads need no connection."""
    row = claimed.delivery
    if row.channel == Delivery.Channel.EMAIL:
        return _send_mail(row)
    body, headers = row.body, {}
    if row.channel == Delivery.Channel.WEBHOOK:
        headers = signed_headers(
            message_id=row.message_id, body=body, secrets=claimed.secrets, now=now
        )
    return outbound.post(claimed.url, body.encode("utf-8"), headers)


def _send_mail(row: Delivery) -> Answer:
    said = strictjson.loads(row.body)
    try:
        EmailMessage(
            said["subject"],
            said["text"],
            settings.DEFAULT_FROM_EMAIL,
            row.target.split(","),
            connection=get_connection(timeout=MAIL_SECONDS),
        ).send()
    except Exception as error:
        return Answer(None, f"{type(error).__name__}: {error}"[:500], "", 0)
    return Answer(250, "", "", 0)


@transaction.atomic
def _record(claimed: Claimed, answer: Answer, now: datetime) -> None:
    """Note the try; late news of a try that another worker has taken over changes nothing."""
    row = Delivery.objects.select_for_update().get(pk=claimed.delivery.pk)
    DeliveryAttempt.objects.get_or_create(
        delivery=row,
        number=claimed.number,
        defaults={
            "tenant_id": row.tenant_id,
            "started_at": now,
            "duration_ms": answer.duration_ms,
            "http_status": answer.status,
            "error": answer.error,
            "answer": answer.body,
        },
    )
    if row.attempts != claimed.number or row.status != Delivery.Status.PENDING:
        return
    row.lease_until, row.last_error = None, answer.error
    if answer.is_success:
        row.status, row.delivered_at = Delivery.Status.DELIVERED, now
        if row.endpoint_id:
            WebhookEndpoint.objects.filter(pk=row.endpoint_id).update(last_success_at=now)
    elif row.attempts >= ATTEMPTS_MAX or answer.status == GONE:
        row.status = Delivery.Status.FAILED
    else:
        row.next_attempt_at = now + _wait(row.attempts)
    row.save()
    if row.status == Delivery.Status.FAILED and row.endpoint_id:
        _disable_if_dead(row, gone=answer.status == GONE, now=now)


def _wait(attempts: int) -> timedelta:
    """The wait after so many tries, moved by up to a fifth, so that retries do not come at once."""
    return WAITS[attempts - 1] * random.uniform(0.8, 1.2)  # noqa: S311  jitter, not a secret


def _disable_if_dead(row: Delivery, *, gone: bool, now: datetime) -> None:
    """Switch the endpoint off if it has taken nothing since this message was written."""
    assert row.endpoint_id is not None
    endpoint = WebhookEndpoint.objects.select_for_update().get(pk=row.endpoint_id)
    alive = endpoint.last_success_at is not None and endpoint.last_success_at >= row.created_at
    if not endpoint.enabled or (alive and not gone):
        return
    reason = "the receiver answered 410 Gone" if gone else f"{row.attempts} tries failed"
    endpoint.enabled, endpoint.disabled_at, endpoint.disabled_reason = False, now, reason
    endpoint.updated_at = now
    endpoint.save()
    cancel_waiting(endpoint_id=endpoint.pk, reason="the endpoint was switched off")
    audit.record(
        tenant_id=endpoint.tenant_id,
        actor="system",
        action="webhook_endpoint.disabled",
        object_type="webhook_endpoint",
        object_id=endpoint.pk,
        now=now,
        after={"reason": reason, "lastError": row.last_error},
    )
    data = {"endpointId": str(endpoint.pk), "url": endpoint.url, "reason": reason}
    notices.emit([notices.Event(endpoint.tenant_id, "webhook.disabled", data)], now=now)
    notices.mail(
        tenant_id=endpoint.tenant_id,
        event_type="webhook.disabled",
        to=(),
        subject="A webhook endpoint was switched off",
        text=f"{endpoint.url} was switched off at {rfc3339(now)}: {reason}.\n"
        f"The last error was: {row.last_error or 'none'}.\n"
        "What it missed stands in the delivery log and can be sent again.",
        now=now,
    )
    log.warning("webhook.disabled", endpoint_id=str(endpoint.pk), reason=reason)


def cancel_waiting(*, endpoint_id: UUID, reason: str) -> int:
    """Stop what waits for an endpoint; it stays in the log and can be sent again."""
    return Delivery.objects.filter(endpoint_id=endpoint_id, status=Delivery.Status.PENDING).update(
        status=Delivery.Status.CANCELLED, last_error=reason, lease_until=None
    )


@transaction.atomic
def redeliver(*, tenant_id: int, delivery_id: UUID, actor: str, now: datetime) -> Delivery:
    """Send a message again, with the same id and body, as a new delivery.

    Raises `NotFound`, and `Conflict` while it still waits or its endpoint is off.
    """
    old = (
        Delivery.objects.select_related("endpoint")
        .filter(tenant_id=tenant_id, pk=delivery_id)
        .first()
    )
    if old is None:
        raise NotFound("No such delivery")
    if old.status == Delivery.Status.PENDING:
        raise Conflict("The delivery still waits for its next try.", code="delivery_pending")
    if old.endpoint is not None and (not old.endpoint.enabled or old.endpoint.deleted_at):
        raise Conflict("Its endpoint is switched off; switch it on first.", code="endpoint_off")
    new = Delivery.objects.create(
        id=notices.new_id(),
        tenant_id=tenant_id,
        endpoint=old.endpoint,
        channel=old.channel,
        message_id=old.message_id,
        event_type=old.event_type,
        target=old.target,
        body=old.body,
        next_attempt_at=now,
        created_at=now,
    )
    audit.record(
        tenant_id=tenant_id,
        actor=actor,
        action="delivery.repeated",
        object_type="delivery",
        object_id=old.pk,
        now=now,
        after={"delivery": str(new.pk), "messageId": new.message_id},
    )
    transaction.on_commit(notices.wake_deliveries)
    return new
