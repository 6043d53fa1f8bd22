"""Writes of alert rules. Each leaves one audit row in the same transaction."""

import re
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction

from billing.alerting import BASELINE_DAYS_MAX, CAPS, OF_MONEY, OF_USAGE, Action, Type
from billing.ids import CURRENCIES
from billing.models import AlertProgress, AlertRule, AlertState, WebhookEndpoint
from billing.services import endpoints, notices, simulations
from billing.services.mappings import Actor
from ledger.services.registry import metric_ids
from stripemeter.lib import outbound, strictjson
from stripemeter.lib.decimals import NotANumber, decimal_of
from stripemeter.lib.errors import Conflict, NotFound, invalid
from stripemeter.lib.instants import rfc3339
from stripemeter.tenancy import audit

RULES_MAX = 5_000
CONFIG_BYTES_MAX = 4_096
RECEIVERS_MAX = 20
_ADDRESS = re.compile(r"[^@\s,<>\"]{1,64}@[A-Za-z0-9.-]{1,190}", re.ASCII)


@transaction.atomic
def create_rule(*, actor: Actor, metric: str | None, values: dict[str, Any]) -> AlertRule:
    """A new rule; an unknown metric is registered. Raises `InvalidRequest`, `Conflict`."""
    known = AlertRule.objects.filter(tenant_id=actor.tenant_id, deleted_at__isnull=True)
    if known.count() >= RULES_MAX:
        raise Conflict(f"A tenant has at most {RULES_MAX} alert rules.", code="too_many")
    rule = AlertRule(
        id=notices.new_id(),
        tenant_id=actor.tenant_id,
        created_by=actor.name,
        created_at=actor.now,
        updated_at=actor.now,
        **values,
    )
    _check(rule)
    if metric is not None:
        rule.metric_id = metric_ids(actor.tenant_id, {metric})[metric]
    _adopt_url(actor, rule)
    rule.save(force_insert=True)
    _changed(actor, "created", rule, None)
    return rule


@transaction.atomic
def update_rule(*, actor: Actor, rule_id: UUID, changes: dict[str, Any]) -> AlertRule:
    """Change threshold, action, config or enabled. Raises `NotFound`, `InvalidRequest`."""
    rule = _locked(actor.tenant_id, rule_id)
    before = described(rule)
    for name, value in changes.items():
        setattr(rule, name, value)
    _check(rule)
    _adopt_url(actor, rule)
    rule.updated_at = actor.now
    rule.save()
    _changed(actor, "updated", rule, before)
    return rule


@transaction.atomic
def delete_rule(*, actor: Actor, rule_id: UUID) -> None:
    """The rule says nothing more; what it said stays. Raises `NotFound`."""
    rule = _locked(actor.tenant_id, rule_id)
    before = described(rule)
    rule.enabled, rule.deleted_at, rule.updated_at = False, actor.now, actor.now
    rule.save()
    AlertState.objects.filter(rule=rule).exclude(status="resolved").update(
        status="resolved", resolved_at=actor.now, updated_at=actor.now, changed_by=actor.name
    )
    _changed(actor, "deleted", rule, before)


def described(rule: AlertRule) -> dict[str, Any]:
    """The rule for the audit trail."""
    return {
        "type": rule.type,
        "customerRef": rule.customer_ref,
        "metricId": rule.metric_id,
        "threshold": rule.threshold,
        "action": rule.action,
        "config": {**rule.config, "webhookUrl": "…"}
        if "webhookUrl" in rule.config
        else rule.config,
        "enabled": rule.enabled,
    }


def _changed(actor: Actor, verb: str, rule: AlertRule, before: dict[str, Any] | None) -> None:
    # Everybody whom it may concern is looked at again.
    progress = AlertProgress.objects.filter(tenant_id=actor.tenant_id)
    if rule.customer_ref is not None:
        progress = progress.filter(customer_ref=rule.customer_ref)
    progress.delete()
    audit.record(
        tenant_id=actor.tenant_id,
        actor=actor.name,
        action=f"alert_rule.{verb}",
        object_type="alert_rule",
        object_id=rule.pk,
        now=actor.now,
        before=before,
        after={**described(rule), "updatedAt": rfc3339(rule.updated_at)},
    )


def _locked(tenant_id: int, rule_id: UUID) -> AlertRule:
    found = (
        AlertRule.objects.select_for_update()
        .filter(tenant_id=tenant_id, pk=rule_id, deleted_at__isnull=True)
        .first()
    )
    if found is None:
        raise NotFound("No such alert")
    return found


# --- what a rule may say ------------------------------------------------------------------


def _check(rule: AlertRule) -> None:
    if rule.action in CAPS and rule.type not in {Type.THRESHOLD, Type.BUDGET}:
        raise invalid("action", "caps go with threshold and budget", code="invalid_choice")
    if rule.type == Type.SPIKE and rule.threshold <= 1:
        raise invalid("threshold", "a spike is a factor greater than 1", code="out_of_range")
    # JSON columns keep no Decimal: fractions become text.
    config = rule.config = simulations.plain(rule.config)
    if len(strictjson.dumps(config)) > CONFIG_BYTES_MAX:
        raise invalid("config", f"may have at most {CONFIG_BYTES_MAX} bytes", code="too_large")
    _check_receivers(rule)
    severity = config.get("severity")
    if severity is not None and severity not in AlertState.Severity.values:
        raise invalid("config.severity", "must be info, warn or critical", code="invalid_choice")
    if rule.type in OF_MONEY and "currency" in config:
        currency = config["currency"]
        if not isinstance(currency, str) or currency.lower() not in CURRENCIES:
            raise invalid("config.currency", "is no currency", code="invalid_currency")
        config["currency"] = currency.upper()
    if rule.type in OF_USAGE:
        _check_spike(config)


def _check_receivers(rule: AlertRule) -> None:
    config = rule.config
    if rule.action == Action.EMAIL and "to" in config:
        to = [config["to"]] if isinstance(config["to"], str) else config["to"]
        good = isinstance(to, list) and 1 <= len(to) <= RECEIVERS_MAX
        if not good or not all(isinstance(a, str) and _ADDRESS.fullmatch(a) for a in to):
            raise invalid(
                "config.to", f"must be 1 to {RECEIVERS_MAX} mail addresses", code="invalid_address"
            )
        config["to"] = to
    if rule.action == Action.SLACK:
        _check_url(config.get("webhookUrl"), "config.webhookUrl")
    if rule.action == Action.WEBHOOK and "url" in config:
        _check_url(config["url"], "config.url")


def _check_url(url: Any, name: str) -> None:
    if not isinstance(url, str):
        raise invalid(name, "is required", code="required")
    try:
        outbound.check_url(url)
    except outbound.Refused as error:
        raise invalid(name, str(error), code="invalid_url") from error


def _check_spike(config: dict[str, Any]) -> None:
    days = config.get("baselineDays", 1)
    if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= BASELINE_DAYS_MAX:
        raise invalid(
            "config.baselineDays", f"must be 1 to {BASELINE_DAYS_MAX}", code="out_of_range"
        )
    try:
        minimum = decimal_of(config.get("minimum", 0))
    except NotANumber as error:
        raise invalid("config.minimum", "must be a number") from error
    if not Decimal(0) <= minimum < Decimal(10) ** 26:
        raise invalid("config.minimum", "is out of range", code="out_of_range")
    if "minimum" in config:
        config["minimum"] = str(minimum)


def _adopt_url(actor: Actor, rule: AlertRule) -> None:
    """A URL in the config becomes an endpoint for alerts, which has a secret and a log."""
    url = rule.config.get("url")
    if rule.action != Action.WEBHOOK or url is None:
        return
    known = WebhookEndpoint.objects.filter(
        tenant_id=actor.tenant_id, url=url, deleted_at__isnull=True
    ).first()
    if known is None:
        known, _ = endpoints.create_endpoint(
            actor=actor, url=url, event_types=["alert.*"], description="named by an alert"
        )
    rule.config["endpointId"] = str(known.pk)
