"""The webhook inbox: each event stored once, processed with effect at most once.

Delivery is at least once and in no order, so handlers never believe a snapshot: they read
the object again. An event is claimed by a lease, worked on without a transaction, and its
effect commits together with its status.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection, transaction

from billing import metrics
from billing.models import StripeAccount, WebhookInbox
from billing.services import webhook_effects
from billing.services.webhook_effects import Effect
from billing.stripe import reading
from billing.stripe.client import KeyMissing, KeyOfWrongMode, has_key
from billing.stripe.errors import StripeRefused, StripeUnavailable
from stripemeter.lib import strictjson
from stripemeter.lib.faults import point
from stripemeter.lib.logs import get_logger

log = get_logger(__name__)

PROCESS_MAX = 200
ATTEMPTS_MAX = 8
LEASE = timedelta(seconds=60)
RETRY_BASE = timedelta(seconds=15)
#: A poll reads this much again, since Stripe may list an event after a younger one.
POLL_OVERLAP = timedelta(minutes=10)
#: How much time is listed at once.
POLL_PART = timedelta(hours=6)
#: Stripe keeps events for 30 days; the first poll of an account looks back this far.
POLL_FIRST = timedelta(days=1)
OUTCOME_CHARS_MAX = 500


@dataclass(frozen=True, slots=True)
class Received:
    """A verified event as it came in."""

    event_id: str
    kind: str
    type: str
    account: str
    livemode: bool | None
    created_at: datetime | None
    body: bytes


_STORE = """
INSERT INTO billing_webhookinbox AS w (event_id, kind, type, account, livemode, created_at,
    received_at, body, digest, status, attempts, not_before, outcome, mismatches, deliveries)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, 'received', 0, %s, '', 0, 1)
ON CONFLICT (event_id) DO UPDATE SET deliveries = w.deliveries + 1,
    mismatches = w.mismatches + (w.digest <> EXCLUDED.digest)::int
RETURNING deliveries, digest
"""


@transaction.atomic
def store(*, received: Received, now: datetime) -> str:
    """Store an event; ``stored``, ``duplicate`` or ``mismatch`` (same id, other content).

    The first content stands; a mismatch is counted on its row and logged.
    """
    digest = hashlib.sha256(received.body).digest()
    with connection.cursor() as cursor:
        cursor.execute(
            _STORE,
            [
                received.event_id,
                received.kind,
                received.type,
                received.account,
                received.livemode,
                received.created_at,
                now,
                received.body,
                digest,
                now,
            ],
        )
        deliveries, kept = cursor.fetchone()
    if deliveries == 1:
        return "stored"
    if bytes(kept) == digest:
        return "duplicate"
    log.warning("webhook.mismatched", event_id=received.event_id)
    return "mismatch"


# --- processing --------------------------------------------------------------------------


def process_inbox(*, now: datetime, limit: int = PROCESS_MAX) -> int:
    """Process what waits, up to ``limit`` events; how many came to an end."""
    ended = 0
    for _ in range(limit):
        event = _claim(now)
        if event is None:
            break
        ended += _process(event, now)
    return ended


@transaction.atomic
def _claim(now: datetime) -> WebhookInbox | None:
    event = (
        WebhookInbox.objects.select_for_update(skip_locked=True)
        .filter(status=WebhookInbox.Status.RECEIVED, not_before__lte=now)
        .order_by("not_before", "pk")
        .first()
    )
    if event is not None:
        event.attempts += 1
        event.not_before = now + LEASE
        event.save(update_fields=["attempts", "not_before"])
    return event


def _process(event: WebhookInbox, now: datetime) -> bool:
    point("webhook.claimed")
    unmatched = _unmatched(event)
    if unmatched:
        return _end(event, Effect("unmatched", unmatched), now)
    try:
        prepared = webhook_effects.prepare(event)
    except StripeRefused as error:
        return _end(event, Effect("ignored", f"cannot be read again: {error}"), now)
    except (StripeUnavailable, KeyMissing, KeyOfWrongMode) as error:
        return _later(event, str(error), now)
    try:
        with transaction.atomic():
            row = WebhookInbox.objects.select_for_update().get(pk=event.pk)
            if row.status != WebhookInbox.Status.RECEIVED:
                return False
            _note(row, webhook_effects.apply(prepared, now=now), now)
            point("webhook.effect_written")
    except Exception as error:  # one poisonous event must not stop its neighbours
        log.exception("webhook.failed", event_id=event.event_id)
        return _later(event, f"{type(error).__name__}: {error}", now)
    return True


def _unmatched(event: WebhookInbox) -> str:
    """Why the event concerns nobody here; empty if it does."""
    if event.livemode is None:
        return "says no mode"
    mode = "live" if event.livemode else "test"
    if not has_key(mode):
        return f"no {mode} key is configured"
    if event.account and not StripeAccount.objects.filter(account=event.account).exists():
        return "unknown account"
    return ""


def _later(event: WebhookInbox, reason: str, now: datetime) -> bool:
    if event.attempts >= ATTEMPTS_MAX:
        return _end(event, Effect("parked", reason), now)
    wait = RETRY_BASE * (1 << min(event.attempts - 1, 8))
    # Who lost the lease says nothing any more: another has claimed the event, or ended it.
    WebhookInbox.objects.filter(
        pk=event.pk, status=WebhookInbox.Status.RECEIVED, attempts=event.attempts
    ).update(not_before=now + wait, outcome=reason[:OUTCOME_CHARS_MAX])
    return False


def _end(event: WebhookInbox, effect: Effect, now: datetime) -> bool:
    with transaction.atomic():
        row = WebhookInbox.objects.select_for_update().get(pk=event.pk)
        if row.status == WebhookInbox.Status.RECEIVED:
            _note(row, effect, now)
    return True


def _note(row: WebhookInbox, effect: Effect, now: datetime) -> None:
    row.status, row.outcome = effect.status, effect.text[:OUTCOME_CHARS_MAX]
    row.processed_at = now
    row.save(update_fields=["status", "outcome", "processed_at"])
    metrics.webhooks.labels(effect.status).inc()


# --- polling -----------------------------------------------------------------------------


def poll_events(*, now: datetime) -> int:
    """Store the events that no webhook brought; how many were new.

    Snapshot events only: Stripe lists thin ones per object, and reconciliation finds what
    they would have told. Stripe lists the newest first, so time is walked through in parts,
    oldest part first: whatever breaks a poll off, the next one goes on from there.
    """
    found = 0
    for account in StripeAccount.objects.order_by("pk"):
        if not has_key(account.mode):
            continue
        since = (account.events_polled_to or now - POLL_FIRST) - POLL_OVERLAP
        try:
            while since < now:
                until = min(since + POLL_PART, now)
                # The last part is open-ended: Stripe's clock may be ahead of ours.
                found += _poll(account, since, now + POLL_PART if until == now else until, now)
                account.events_polled_to = since = until
                account.save(update_fields=["events_polled_to"])
        except (StripeUnavailable, StripeRefused) as error:
            log.warning("poll.failed", account=str(account), error=str(error))
    return found


def _poll(account: StripeAccount, since: datetime, until: datetime, now: datetime) -> int:
    new = 0
    for events in reading.events_between(
        mode=account.mode, account=account.account, since=since, until=until
    ):
        for event in reversed(events):
            new += store(received=_polled(event, account), now=now) == "stored"
    return new


def _polled(event: dict[str, Any], account: StripeAccount) -> Received:
    connected = "" if account.account == "default" else account.account
    return Received(
        event_id=str(event["id"]),
        kind="snapshot",
        type=str(event["type"]),
        account=str(event.get("account") or connected),
        livemode=bool(event["livemode"]),
        created_at=datetime.fromtimestamp(event["created"], UTC),
        body=strictjson.dumps(event),
    )
