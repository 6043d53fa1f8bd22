"""Settles unknown outcomes from what Stripe has summed, or hands them to a person.

An identifier is remembered for 24 hours at least, so after 23 nothing is sent again: the
day's summary decides. It is eventually consistent, hence two equal reads before a value
is declared absent, and nothing is concluded while other pushes of that day are open.
"""

from datetime import datetime, timedelta
from decimal import Decimal

from django.db import connection, transaction
from django.db.models import Sum

from billing import formulas
from billing.models import Push
from billing.services import delivery, happenings
from billing.stripe import meters
from billing.stripe.client import KeyMissing, KeyOfWrongMode
from billing.stripe.errors import StripeRefused, StripeUnavailable
from stripemeter.lib import strictjson
from stripemeter.lib.decimals import fifteen_digits, plain
from stripemeter.lib.instants import rfc3339
from stripemeter.lib.logs import get_logger

log = get_logger(__name__)

SETTLE_MAX = 200
#: Two reads that agree lie at least this far apart.
READS_APART = timedelta(minutes=15)
#: Unknown for longer than this: a person decides.
PATIENCE = timedelta(hours=12)


def settle_unknown(*, now: datetime) -> int:
    """Look up to 200 unknown pushes up; how many are settled or handed over."""
    due = list(
        Push.objects.filter(state=Push.State.UNKNOWN, not_before__lte=now)
        .select_related("account")
        .order_by("not_before")[:SETTLE_MAX]
    )
    return sum(_settle(push, now) for push in due)


def _settle(push: Push, now: datetime) -> bool:
    if push.semantics in formulas.ABSOLUTE:
        # Saying an absolute amount again is harmless whether or not the first arrived.
        return _decide(push, "rejected", "absolute values may be said again", None, now)
    try:
        found = _stripe_day(push)
    except (StripeUnavailable, KeyMissing, KeyOfWrongMode) as error:
        return _wait(push, str(error), None, now)
    except StripeRefused as error:
        return _decide(push, "needs_review", str(error), None, now)
    if found is None:
        return _decide(push, "needs_review", "Stripe has no such meter", None, now)
    ours = _acknowledged(push)
    if _others_open(push):
        return _wait(push, "other pushes of the day are open", found, now)
    if fifteen_digits(found) == fifteen_digits(ours + push.delta):
        return _decide(push, "acknowledged", "the day's summary holds it", found, now)
    if fifteen_digits(found) == fifteen_digits(ours):
        if _read_before(push) == found:
            return _decide(push, "rejected", "two summaries of the day lack it", found, now)
        return _wait(push, "absent once; read again", found, now)
    return _wait(push, "the day's summary fits neither way", found, now)


def _stripe_day(push: Push) -> Decimal | None:
    meter = meters.find_meter(mode=push.mode, account=push.account.account, event_name=push.target)
    if meter is None:
        return None
    day = push.stamped_at.date()
    days = meters.read_days(
        mode=push.mode,
        account=push.account.account,
        meter_id=meter["id"],
        customer=push.stripe_customer_id,
        start=day,
        end=day + timedelta(days=1),
    )
    return days.get(day, Decimal(0))


def _same_day(push: Push) -> object:
    start = push.stamped_at.replace(hour=0, minute=0, second=0, microsecond=0)
    return Push.objects.filter(
        account_id=push.account_id,
        target=push.target,
        stripe_customer_id=push.stripe_customer_id,
        stamped_at__gte=start,
        stamped_at__lt=start + timedelta(days=1),
    )


def _acknowledged(push: Push) -> Decimal:
    found = _same_day(push).filter(state=Push.State.ACKNOWLEDGED).aggregate(total=Sum("delta"))  # type: ignore[attr-defined]
    return Decimal(found["total"] or 0)


def _others_open(push: Push) -> bool:
    undecided = ["sending", "retry", "unknown", "needs_review"]
    return bool(
        _same_day(push).filter(state__in=undecided).exclude(id=push.id).exists()  # type: ignore[attr-defined]
    )


def _read_before(push: Push) -> Decimal | None:
    """The value of an earlier read, if it lies far enough back (`not_before` saw to that)."""
    text = (push.evidence or {}).get("stripeDay")
    return None if text is None else Decimal(text)


def _wait(push: Push, reason: str, found: Decimal | None, now: datetime) -> bool:
    assert push.first_attempt_at is not None
    if now - push.first_attempt_at > delivery.RESEND_MAX + PATIENCE:
        return _decide(push, "needs_review", reason, found, now)
    Push.objects.filter(tenant_id=push.tenant_id, id=push.id, state="unknown").update(
        not_before=now + READS_APART, evidence=_evidence(push, reason, found, now)
    )
    return False


def _evidence(
    push: Push, reason: str, found: Decimal | None, now: datetime
) -> dict[str, str | None]:
    return {
        "reason": reason,
        "day": push.stamped_at.date().isoformat(),
        "stripeDay": None if found is None else plain(found),
        "acknowledgedDay": plain(_acknowledged(push)),
        "readAt": rfc3339(now),
    }


@transaction.atomic
def _decide(push: Push, verdict: str, reason: str, found: Decimal | None, now: datetime) -> bool:
    evidence = _evidence(push, reason, found, now)
    if verdict == "rejected":
        count = delivery.reject(
            pushes=[(push.tenant_id, push.id)],
            code="absent_at_stripe",
            message=reason,
            now=now,
            evidence=strictjson.dumps(evidence).decode(),
        )
    else:
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE billing_push SET state = %s, settled_at = %s, evidence = %s::jsonb"
                " WHERE tenant_id = %s AND id = %s AND state = 'unknown'",
                [verdict, now, strictjson.dumps(evidence).decode(), push.tenant_id, push.id],
            )
            count = int(cursor.rowcount)
        if count:
            happenings.tell_pushes([(push, verdict, reason)], now=now)
    log.info("push.settled", identifier=push.identifier, verdict=verdict, reason=reason)
    return count > 0
