"""What an operator says of an event that was refused under a used key."""

from datetime import datetime

from django.db import transaction

from ledger.models import EventConflict
from stripemeter.lib.errors import NotFound
from stripemeter.tenancy import audit


@transaction.atomic
def resolve_conflict(
    *, tenant_id: int, conflict_id: int, note: str, actor: str, now: datetime
) -> EventConflict:
    """Mark a conflict as looked at; the ledger is not touched. Twice is once.

    Raises `NotFound`.
    """
    found = (
        EventConflict.objects.select_for_update()
        .filter(tenant_id=tenant_id, pk=conflict_id)
        .first()
    )
    if found is None:
        raise NotFound("No such conflict")
    if found.resolved_at is None:
        found.resolved_at, found.resolved_by, found.note = now, actor, note
        found.save(update_fields=["resolved_at", "resolved_by", "note"])
        audit.record(
            tenant_id=tenant_id,
            actor=actor,
            action="event_conflict.resolved",
            object_type="event_conflict",
            object_id=found.key,
            now=now,
            after={"note": note},
        )
    return found
