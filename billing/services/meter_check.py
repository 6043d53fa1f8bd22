"""Refuses a mapping whose meter is known to add up otherwise than the mapping needs.

Stripe is read for it, so it is asked before a transaction is opened, and briefly: a meter
that cannot be read now is unknown, as one that does not exist yet. `doctor` and the form's
panel look again later.
"""

from datetime import datetime

from billing import formulas
from billing.models import Mode, PriceMapping, StripeAccount
from billing.stripe import meters
from billing.stripe.client import KeyMissing, KeyOfWrongMode
from billing.stripe.errors import StripeRefused, StripeUnavailable
from stripemeter.lib.errors import invalid
from stripemeter.lib.logs import get_logger

log = get_logger(__name__)

#: What of a mapping decides which meter is fed, and with what.
DECISIVE = frozenset(
    {
        "aggregation",
        "push_semantics",
        "shadow",
        "shadow_stripe_account",
        "stripe_account",
        "stripe_meter_event_name",
    }
)


def refuse_unfit_meters(mapping: PriceMapping, *, metric: str, now: datetime) -> None:
    """Raise `InvalidRequest` if Stripe says that a meter of the mapping takes something else.

    ``mapping`` need not be stored; ``metric`` is its metric's name. Combinations that are
    refused whatever the meter is are left to `mappings`.
    """
    if not formulas.has_meter(mapping.push_semantics) or formulas.refusal(
        mapping.aggregation, mapping.push_semantics
    ):
        return
    sides = [(Mode.LIVE, mapping.stripe_account)]
    if mapping.shadow and mapping.shadow_stripe_account:
        sides.append((Mode.TEST, mapping.shadow_stripe_account))
    event_name = mapping.stripe_meter_event_name or metric
    for mode, account in sides:
        reason = _reason(mapping, mode, account, event_name, now)
        if reason is not None:
            side = "" if mode == Mode.LIVE else "Shadow: "
            raise invalid(
                "pushSemantics", f"{side}{event_name}: {reason}", code="meter_formula_refused"
            )


def _reason(
    mapping: PriceMapping, mode: str, account: str, event_name: str, now: datetime
) -> str | None:
    known = StripeAccount.objects.filter(account=account, mode=mode).first()
    if known is not None and known.owner_id not in (None, mapping.tenant_id):
        return None  # another tenant's: refused when stored, and nothing of it is told
    if known is not None and known.open_until is not None and known.open_until > now:
        return None  # Stripe does not answer just now: nobody waits for it here
    try:
        meter = meters.find_meter(mode=mode, account=account, event_name=event_name, hasty=True)
    except (StripeUnavailable, StripeRefused, KeyMissing, KeyOfWrongMode) as error:
        log.warning("meter.unread", account=account, mode=mode, error=str(error))
        return None
    return None if meter is None else formulas.meter_refusal(mapping.push_semantics, meter)
