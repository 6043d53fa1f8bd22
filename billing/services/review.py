"""What operators decide about pushes: verdicts on unknown ones, releases of held cursors."""

from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from billing.models import Push, PushCursor
from billing.services import delivery, happenings
from stripemeter.lib import strictjson
from stripemeter.lib.errors import Conflict, NotFound, invalid
from stripemeter.tenancy import audit

VERDICTS = ("acknowledged", "rejected")
_DECIDABLE = frozenset({"needs_review", "unknown", "parked"})


@transaction.atomic
def settle_push(
    *, tenant_id: int, push_id: UUID, verdict: str, note: str, actor: str, now: datetime
) -> Push:
    """Say whether Stripe has the value. Raises `NotFound`, `InvalidRequest`, `Conflict`.

    Rejected: the value leaves the pushed total, and the cursor is planned again under a new
    identifier. Say so only if Stripe really lacks it. A cursor that the push had held is
    released; one that is held for another reason stays so, until somebody releases it.
    """
    if verdict not in VERDICTS:
        raise invalid("verdict", f"must be one of {', '.join(VERDICTS)}", code="invalid_choice")
    push = Push.objects.select_for_update().filter(tenant_id=tenant_id, id=push_id).first()
    if push is None:
        raise NotFound("No such push")
    if push.state not in _DECIDABLE:
        raise Conflict(f"The push is {push.state}; there is nothing to decide.")
    before = push.state
    evidence = {**(push.evidence or {}), "verdict": verdict, "note": note, "by": actor}
    if verdict == "rejected":
        delivery.reject(
            pushes=[(tenant_id, push_id)],
            code="operator",
            message=note,
            now=now,
            evidence=strictjson.dumps(evidence).decode(),
        )
    else:
        push.state = Push.State.ACKNOWLEDGED
        push.settled_at, push.evidence = now, evidence
        push.save(update_fields=["state", "settled_at", "evidence"])
        happenings.tell_pushes([(push, push.state, note)], now=now)
    PushCursor.objects.filter(
        Q(held_at=None) | Q(held_reason__startswith=f"Stripe refused {push.identifier}:"),
        tenant_id=tenant_id,
        mapping_id=push.mapping_id,
        customer_ref=push.customer_ref,
        period_start=push.period_start,
        mode=push.mode,
    ).update(held_at=None, held_reason="", rejections=0, not_before=None, seen_revision=-1)
    audit.record(
        tenant_id=tenant_id,
        actor=actor,
        action=f"push.{verdict}",
        object_type="push",
        object_id=push.identifier,
        now=now,
        before={"state": before},
        after={"state": verdict, "note": note},
    )
    push.refresh_from_db()
    return push


@transaction.atomic
def release_cursors(
    *, tenant_id: int, mapping_id: UUID, mode: str, actor: str, now: datetime
) -> int:
    """Let held cursors of a mapping be planned again, after their cause was put right.

    Parked pushes are rejected first: Stripe refused them, so their value is planned anew.
    How many cursors were released.
    """
    held = PushCursor.objects.filter(
        tenant_id=tenant_id, mapping_id=mapping_id, mode=mode, held_at__isnull=False
    )
    # Locked in the order of planning.
    locked = held.select_for_update().order_by("customer_ref", "period_start")
    released = len(locked.values_list("customer_ref"))
    parked = Push.objects.filter(
        tenant_id=tenant_id, mapping_id=mapping_id, mode=mode, state=Push.State.PARKED
    ).values_list("tenant_id", "id")
    delivery.reject(
        pushes=list(parked), code="released", message="released by an operator", now=now
    )
    held.update(held_at=None, held_reason="", rejections=0, not_before=None, seen_revision=-1)
    audit.record(
        tenant_id=tenant_id,
        actor=actor,
        action="push_cursors.released",
        object_type="mapping",
        object_id=mapping_id,
        now=now,
        after={"mode": mode, "cursors": released},
    )
    return released
