"""Takes back at Stripe what a repair sent: one cancellation, whoever dies on the way."""

from datetime import datetime, timedelta

from django.db.models import Sum

from billing.models import Push
from billing.services.corrections import CursorKey
from billing.stripe.answers import Outcome
from billing.stripe.meters import cancel, find_meter, read_total
from reconciliation.facts import ACKNOWLEDGED
from reconciliation.models import RepairStep

#: Stripe cancels a meter event within 24 hours of receiving it; an hour is kept back.
CANCEL_WITHIN = timedelta(hours=23)


def cancel_sent(step: RepairStep, key: CursorKey, now: datetime) -> Push | None:
    """Cancel the one push that the step caused, if Stripe still takes that.

    Which push it is, is written down before Stripe is asked: an undo that was broken off there
    and goes on too late to cancel looks at Stripe's sum, whether the cancellation had come in.
    """
    push = _push_to_cancel(step, key, now)
    if push is None:
        return None
    answer = cancel(
        mode=push.mode,
        account=push.account.account,
        event_name=push.target,
        identifier=push.identifier,
    )
    gone = answer.outcome is Outcome.ACCEPTED or _is_gone(push)
    return push if gone else None


def _push_to_cancel(step: RepairStep, key: CursorKey, now: datetime) -> Push | None:
    """The push that an earlier try chose, else the one that can be cancelled, noted down."""
    sent = Push.objects.filter(**key.fields(), state=ACKNOWLEDGED).select_related("account")
    if "cancelling" in step.outcome:
        return sent.filter(id=step.outcome["cancelling"]).first()
    push = (
        sent.filter(
            delta=step.effect_units,
            created_at__gte=step.plan.applied_at,
            first_attempt_at__gt=now - CANCEL_WITHIN,
        )
        .order_by("sequence")
        .first()
    )
    if push is not None:
        step.outcome = {**step.outcome, "cancelling": str(push.id)}
        step.save(update_fields=["outcome"])
    return push


def _is_gone(push: Push) -> bool:
    """Whether Stripe's sum of the push's minute lacks exactly this push."""
    mode, account = push.mode, push.account.account
    meter = find_meter(mode=mode, account=account, event_name=push.target)
    if meter is None:
        return False
    start = push.stamped_at.replace(second=0, microsecond=0)
    end = start + timedelta(minutes=1)
    told = Push.objects.filter(
        account=push.account, target=push.target, stripe_customer_id=push.stripe_customer_id,
        state=ACKNOWLEDGED, stamped_at__gte=start, stamped_at__lt=end,
    ).aggregate(value=Sum("value"))["value"]  # fmt: skip
    found = read_total(
        mode=mode, account=account, meter_id=meter["id"], customer=push.stripe_customer_id,
        start=start, end=end,
    )  # fmt: skip
    return bool(found == told - push.value)
