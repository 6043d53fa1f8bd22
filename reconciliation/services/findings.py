"""Findings: opened and closed by runs, decided by people."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import uuid_utils
from django.db import transaction

from billing.services.notices import Event, emit
from reconciliation import drift
from reconciliation.facts import Cause, Found
from reconciliation.gathering import Assessment
from reconciliation.models import Finding
from reconciliation.money import Prices
from reconciliation.selectors.targets import Scope
from stripemeter.lib import strictjson
from stripemeter.lib.errors import Conflict, NotFound, invalid
from stripemeter.lib.instants import rfc3339
from stripemeter.tenancy import audit

#: What runs say themselves about findings that need nobody.
QUIET_NOTES = {
    Cause.IN_FLIGHT: "under way; the next runs see it arrive",
    Cause.SETTLING: "Stripe adds up with delay; it settles by itself",
    Cause.ROUNDING_CARRY: "makes no whole step; carried to the next push",
}
_QUIET = frozenset(str(cause) for cause in QUIET_NOTES)
GONE_NOTE = "no longer seen"


def new_id() -> UUID:
    """A time-ordered id."""
    return UUID(bytes=uuid_utils.uuid7().bytes)


def plain_json(value: Any) -> Any:
    """``value`` as JSON reads it back: Decimals and instants as text."""
    return strictjson.loads(strictjson.dumps(value, decimals_as_text=True))


def record_findings(
    *, run_id: UUID, assessments: list[Assessment], prices: Prices, epsilon: Decimal, now: datetime
) -> None:
    """Open or refresh the findings of some cursors; inside the caller's transaction."""
    for each in assessments:
        for found in each.found:
            _record(run_id, each, found, prices, epsilon, now)


def _record(
    run_id: UUID,
    assessment: Assessment,
    found: Found,
    prices: Prices,
    epsilon: Decimal,
    now: datetime,
) -> None:
    target = assessment.target
    key = {
        "tenant_id": target.tenant_id,
        "mapping_id": target.mapping_id,
        "customer_ref": target.customer_ref,
        "period_start": target.period_start,
        "mode": target.mode,
        "cause": str(found.cause),
    }
    worth = prices.worth(target.mapping_id, ours=assessment.wanted, drift=found.units)
    said = {
        "severity": _severity(assessment, found, epsilon),
        "units": found.units,
        "amount_minor": worth.minor,
        "currency": worth.currency,
        "days": list(found.days),
        "push_ids": [push.id for push in found.pushes],
        "evidence": plain_json(found.evidence),
        "last_run_id": run_id,
        "seen_at": now,
    }
    known = Finding.objects.select_for_update().filter(**key, closed_at__isnull=True).first()
    if known is None:
        made = Finding.objects.create(
            id=new_id(),
            **key,
            **said,
            metric_id=target.metric_id,
            period_end=target.period_end,
            first_run_id=run_id,
            opened_at=now,
            state=Finding.State.OPEN if found.alarms else Finding.State.EXPLAINED,
            note="" if found.alarms else QUIET_NOTES[found.cause],
        )
        if found.alarms:
            _tell(made, "opened", now)
        return
    grown = found.units != known.units and known.state != Finding.State.OPEN and found.alarms
    if grown or (found.alarms and known.state == Finding.State.EXPLAINED and not known.decided_by):
        # What was decided was decided about another size.
        said["state"] = Finding.State.OPEN
    Finding.objects.filter(pk=known.pk).update(**said)
    if said.get("state") == Finding.State.OPEN != known.state:
        known.refresh_from_db()
        _tell(known, "opened", now)


def _severity(assessment: Assessment, found: Found, epsilon: Decimal) -> str:
    if not found.alarms:
        return Finding.Severity.INFO
    larger = max(abs(assessment.wanted), abs(assessment.stripe or Decimal(0)))
    return drift.severity(found.units, larger=larger, epsilon=epsilon)


def close_unseen(
    *, run_id: UUID, scope: Scope, checked: set[tuple[Any, ...]], now: datetime
) -> int:
    """Close active findings of ``checked`` cursors that this run did not see."""
    active = Finding.objects.filter(tenant_id=scope.tenant_id, closed_at__isnull=True).exclude(
        last_run_id=run_id
    )
    closed = 0
    for finding in active:
        key = (finding.mapping_id, finding.customer_ref, finding.period_start, finding.mode)
        if key not in checked:
            continue
        finding.closed_at = now
        if finding.state == Finding.State.OPEN:
            finding.state = Finding.State.EXPLAINED
            finding.note = finding.note or GONE_NOTE
        finding.save(update_fields=["closed_at", "state", "note"])
        if finding.cause not in _QUIET:
            _tell(finding, "closed", now)
        closed += 1
    return closed


@transaction.atomic
def decide(
    *,
    tenant_id: int,
    finding_id: UUID,
    state: str,
    note: str,
    owner: str | None,
    actor: str,
    now: datetime,
) -> Finding:
    """A person's word on an active finding: explained, accepted, or open again.

    A note is needed to explain or accept. Raises `NotFound`, `InvalidRequest`, `Conflict`.
    """
    allowed = (Finding.State.OPEN, Finding.State.EXPLAINED, Finding.State.ACCEPTED)
    if state not in allowed:
        raise invalid("state", f"must be one of {', '.join(allowed)}", code="invalid_choice")
    if state != Finding.State.OPEN and not note.strip():
        raise invalid("note", "says why; it is required to explain or accept", code="required")
    finding = Finding.objects.select_for_update().filter(tenant_id=tenant_id, pk=finding_id).first()
    if finding is None:
        raise NotFound("No such finding")
    if finding.closed_at is not None:
        raise Conflict("The finding is closed: no run sees it any more.", code="finding_closed")
    before = {"state": finding.state, "note": finding.note, "owner": finding.owner}
    finding.state, finding.note = state, note
    finding.owner = finding.owner if owner is None else owner
    finding.decided_by, finding.decided_at = actor, now
    finding.save(update_fields=["state", "note", "owner", "decided_by", "decided_at"])
    audit.record(
        tenant_id=tenant_id,
        actor=actor,
        action="finding.decided",
        object_type="finding",
        object_id=finding.pk,
        now=now,
        before=before,
        after={"state": state, "note": note, "owner": finding.owner},
    )
    _tell(finding, "decided", now)
    return finding


def _tell(finding: Finding, verb: str, now: datetime) -> None:
    """Queue a webhook event; in the transaction of the change."""
    data = {
        "findingId": str(finding.pk),
        "cause": str(finding.cause),
        "severity": str(finding.severity),
        "state": str(finding.state),
        "mappingId": str(finding.mapping_id),
        "customerRef": finding.customer_ref,
        "periodStart": rfc3339(finding.period_start),
        "mode": finding.mode,
        "units": finding.units,
        "amountMinor": finding.amount_minor,
        "currency": finding.currency or None,
    }
    emit([Event(finding.tenant_id, f"reconciliation.finding.{verb}", data)], now=now)
