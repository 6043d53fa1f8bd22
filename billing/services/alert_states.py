"""The life of an alert: triggered, revised, acknowledged, snoozed, resolved.

Every change adds one `AlertEvent` and queues its notices in the same transaction.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction

from billing.alerting import Action, Type, Verdict, severity_of, text_of, title_of
from billing.models import AlertEvent, AlertRule, AlertState
from billing.services import notices
from billing.services.mappings import Actor
from stripemeter.lib.decimals import plain
from stripemeter.lib.errors import InvalidRequest, NotFound, invalid
from stripemeter.lib.instants import rfc3339
from stripemeter.tenancy import audit

Status = AlertState.Status
SNOOZE, SNOOZE_MAX = timedelta(hours=24), timedelta(days=31)


# --- by evaluation ------------------------------------------------------------------------


def trigger(verdict: Verdict, *, tenant_key: str, customer_ref: str, now: datetime) -> bool:
    """A new state for a verdict that is met; False if the rule has spoken already."""
    rule = verdict.rule
    state = AlertState(
        id=notices.new_id(),
        tenant_id=rule.tenant_id,
        rule=rule,
        customer_ref=customer_ref,
        metric=verdict.metric,
        bucket_start=verdict.bucket_start,
        bucket_end=verdict.bucket_end,
        value=verdict.value,
        threshold=rule.threshold,
        action=rule.action,
        severity=severity_of(rule),
        title=title_of(verdict, customer_ref),
        description=text_of(verdict),
        triggered_at=now,
        created_at=now,
        updated_at=now,
    )
    made = AlertState.objects.bulk_create([state], ignore_conflicts=True)
    if not made or not AlertState.objects.filter(pk=state.pk).exists():
        return False
    tell(state, "triggered", tenant_key=tenant_key, now=now)
    return True


def revise(state: AlertState, verdict: Verdict, *, tenant_key: str, now: datetime) -> None:
    """The value crossed the threshold again, after late events or a correction."""
    was_open = state.status != Status.RESOLVED
    state.withdrawn = not verdict.is_met
    state.value, state.description = verdict.value, text_of(verdict)
    state.updated_at = now
    if state.withdrawn:
        state.status, state.resolved_at, state.changed_by = Status.RESOLVED, now, "system"
    else:
        state.status, state.resolved_at, state.triggered_at = Status.TRIGGERED, None, now
    state.save()
    if was_open or not state.withdrawn:
        tell(state, "revised", tenant_key=tenant_key, now=now)


def wake_up(state: AlertState, *, tenant_key: str, now: datetime) -> None:
    """A snooze is over and the value still stands: say it again."""
    state.status, state.snoozed_until, state.updated_at = Status.TRIGGERED, None, now
    state.save(update_fields=["status", "snoozed_until", "updated_at"])
    tell(state, "triggered", tenant_key=tenant_key, now=now)


def close_old(*, tenant_id: int, before: datetime, now: datetime) -> int:
    """Resolve what concerns periods that ended before ``before``; the next period is armed."""
    return (
        AlertState.objects.filter(tenant_id=tenant_id, bucket_end__lte=before)
        .exclude(status=Status.RESOLVED)
        .update(status=Status.RESOLVED, resolved_at=now, updated_at=now, changed_by="system")
    )


# --- by people ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """What somebody says about a state; None leaves a field as it is."""

    status: str
    value: Decimal | None = None
    threshold: Decimal | None = None
    action: str | None = None
    metadata: str | None = None
    snoozed_until: datetime | None = None


@transaction.atomic
def set_status(*, actor: Actor, tenant_key: str, state_id: UUID, change: Change) -> AlertState:
    """Acknowledge, snooze, resolve or re-open. Raises `NotFound`, `InvalidRequest`."""
    state = locked_state(actor.tenant_id, state_id)
    before = _described(state)
    if change.snoozed_until is not None and change.status != Status.SNOOZED:
        raise InvalidRequest("snoozedUntil goes with the status snoozed.", code="invalid_choice")
    state.status = change.status
    state.snoozed_until = None
    if change.status == Status.SNOOZED:
        until = change.snoozed_until or actor.now + SNOOZE
        if not actor.now < until <= actor.now + SNOOZE_MAX:
            raise invalid("snoozedUntil", "must lie within the next 31 days", code="out_of_range")
        state.snoozed_until = until
    for name in ("value", "threshold", "action", "metadata"):
        given = getattr(change, name)
        if given is not None:
            setattr(state, name, given)
    if state.status == Status.ACKNOWLEDGED:
        state.acknowledged_at = actor.now
    state.resolved_at = actor.now if state.status == Status.RESOLVED else None
    state.changed_by, state.updated_at = actor.name, actor.now
    state.save()
    _audit(actor, "changed", state, before)
    tell(state, state.status, tenant_key=tenant_key, now=actor.now, actor=actor.name)
    return state


@transaction.atomic
def write_state(
    *, actor: Actor, tenant_key: str, rule_id: UUID, values: dict[str, Any]
) -> AlertState:
    """A state written by a caller, for a rule of the tenant. Raises `NotFound`."""
    rule = AlertRule.objects.filter(
        tenant_id=actor.tenant_id, pk=rule_id, deleted_at__isnull=True
    ).first()
    if rule is None:
        raise NotFound("No such alert")
    state = AlertState.objects.create(
        id=notices.new_id(),
        tenant_id=actor.tenant_id,
        rule=rule,
        changed_by=actor.name,
        triggered_at=actor.now,
        created_at=actor.now,
        updated_at=actor.now,
        **values,
    )
    _audit(actor, "created", state, None)
    tell(state, "triggered", tenant_key=tenant_key, now=actor.now, actor=actor.name)
    return state


@transaction.atomic
def delete_state(*, actor: Actor, state_id: UUID) -> None:
    """Take the state and its events away; the audit trail keeps what it said."""
    state = locked_state(actor.tenant_id, state_id)
    _audit(actor, "deleted", state, _described(state))
    state.delete()


def locked_state(tenant_id: int, state_id: UUID) -> AlertState:
    """The tenant's state, locked. Raises `NotFound`."""
    found = (
        AlertState.objects.select_for_update(of=("self",))
        .select_related("rule")
        .filter(tenant_id=tenant_id, pk=state_id)
        .first()
    )
    if found is None:
        raise NotFound("No such alert state")
    return found


def _described(state: AlertState) -> dict[str, Any]:
    return {
        "title": state.title,
        "customerRef": state.customer_ref,
        "metric": state.metric,
        "status": state.status,
        "value": state.value,
        "threshold": state.threshold,
        "action": state.action,
        "snoozedUntil": state.snoozed_until and rfc3339(state.snoozed_until),
    }


def _audit(actor: Actor, verb: str, state: AlertState, before: dict[str, Any] | None) -> None:
    audit.record(
        tenant_id=actor.tenant_id,
        actor=actor.name,
        action=f"alert.{verb}",
        object_type="alert_state",
        object_id=state.pk,
        now=actor.now,
        before=before,
        after=_described(state),
    )


# --- telling ------------------------------------------------------------------------------


def tell(state: AlertState, kind: str, *, tenant_key: str, now: datetime, actor: str = "") -> None:
    """Add the event and queue what the rule wants sent; in the caller's transaction."""
    rule = state.rule
    AlertEvent.objects.create(
        id=notices.new_id(),
        tenant_id=state.tenant_id,
        state=state,
        rule=rule,
        customer_ref=state.customer_ref,
        metric=state.metric,
        kind=kind,
        status=state.status,
        value=state.value,
        threshold=state.threshold,
        action=state.action,
        triggered_at=state.triggered_at,
        acknowledged_at=state.acknowledged_at,
        resolved_at=state.resolved_at,
        actor=actor,
        recorded_at=now,
    )
    data = _wire(state, kind, tenant_key)
    events = [notices.Event(state.tenant_id, f"alert.{kind}", data)]
    if kind == "triggered" and rule.type == Type.THRESHOLD:
        events.append(notices.Event(state.tenant_id, "usage.threshold", data))
    notices.emit(events, now=now)
    # People are told what is news; what one of them did, the others see on the page.
    if kind in {"triggered", "revised"}:
        _send(state, kind, now)


def _wire(state: AlertState, kind: str, tenant_key: str) -> dict[str, Any]:
    return {
        "id": str(state.pk),
        "alertConfigId": str(state.rule_id),
        "tenantId": tenant_key,
        "customerRef": state.customer_ref,
        "metric": state.metric or None,
        "type": state.rule.type,
        "action": state.action,
        "value": state.value,
        "threshold": state.threshold,
        "status": state.status,
        "severity": state.severity,
        "title": state.title,
        "revised": kind == "revised",
        "periodStart": state.bucket_start and rfc3339(state.bucket_start),
        "periodEnd": state.bucket_end and rfc3339(state.bucket_end),
    }


def _send(state: AlertState, kind: str, now: datetime) -> None:
    rule, word = state.rule, "" if kind == "triggered" else "Revised: "
    subject = word + state.title
    text = "\n".join(
        (
            state.description or state.title,
            f"Value {plain(state.value)}, threshold {plain(state.threshold)}.",
            "A correction took the value below the threshold." if state.withdrawn else "",
        )
    ).strip()
    event_type = f"alert.{kind}"
    if state.action == Action.EMAIL:
        notices.mail(
            tenant_id=state.tenant_id,
            event_type=event_type,
            to=rule.config.get("to", ()),
            subject=subject,
            text=text,
            now=now,
        )
    elif state.action == Action.SLACK and "webhookUrl" in rule.config:
        notices.slack(
            tenant_id=state.tenant_id,
            event_type=event_type,
            url=rule.config["webhookUrl"],
            text=f"*{subject}*\n{text}",
            now=now,
        )
