"""Alerts: what has been found, the rules that find it, and the tile of the home page."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from billing import selectors_alerts as reads
from billing.alerts_api import AlertChanges, NewAlert
from billing.models import AlertRule, AlertState
from billing.services import alert_rules, alert_states
from billing.services.mappings import Actor
from billing.tasks import wake_alerts
from billing.views.forms import by_field, number, validated
from ledger.models import Metric
from stripemeter.lib import clock
from stripemeter.lib.decimals import plain
from stripemeter.lib.errors import ProblemError
from stripemeter.lib.instants import InvalidInstant, parse_instant, rfc3339
from stripemeter.lib.pages import PAGE_ROWS, Pager, back, filters_of
from stripemeter.lib.panels import render_panel
from stripemeter.tenancy.operators import Operator, operator_page

#: What the list shows unless a state is chosen.
OPEN = ("triggered", "acknowledged", "snoozed")
#: Members of the config that the form knows, and the action or type they go with.
CONFIG_TEXTS = ("to", "webhookUrl", "currency", "minimum", "baselineDays", "severity")


@require_GET
@operator_page()
def alerts(request: Any) -> HttpResponse:
    """What the rules found, newest first; resolved ones on request."""
    tenant = request.operator.tenant
    form = filters_of(request, "status", "customerRef", "severity")
    if form["status"] not in AlertState.Status.values:
        form["status"] = ""
    if form["severity"] not in AlertState.Severity.values:
        form["severity"] = ""
    pager = Pager(request, tenant.key, "ops-alerts", form)
    found = reads.alert_states(
        tenant_id=tenant.pk,
        customer_ref=form["customerRef"] or None,
        status=form["status"],
        severity=form["severity"],
    )
    if not form["status"]:
        found = found.filter(status__in=OPEN)
    if pager.after is not None:
        found = found.filter(pk__lt=UUID(pager.after))
    page = list(found.select_related("rule").order_by("-pk")[: PAGE_ROWS + 1])
    context = {
        "title": "Alerts",
        "form": form,
        "pager": pager,
        "rows": pager.cut(page, lambda state: state.pk.hex),
        "statuses": AlertState.Status.choices,
        "severities": AlertState.Severity.choices,
    }
    return render(request, "billing/alerts.html", context)


@require_GET
@operator_page()
def alert_rules_page(request: Any) -> HttpResponse:
    """The rules, the widest scope first."""
    rows = reads.alert_rules(tenant_id=request.operator.tenant.pk)
    rules = sorted(rows, key=lambda r: (r.customer_ref is not None, r.metric_id is not None))
    return render(request, "billing/alert_rules.html", {"title": "Alert rules", "rows": rules})


@require_POST
@operator_page("maintainer")
def change_alert(request: Any, state_id: UUID) -> HttpResponse:
    """Acknowledge, snooze, resolve or re-open."""
    operator: Operator = request.operator
    status = request.POST.get("status", "")
    if status not in AlertState.Status.values:
        raise Http404
    until = None
    if request.POST.get("until"):
        try:
            until = parse_instant(f"{request.POST['until']}:00Z")
        except InvalidInstant:
            until = None
    state = alert_states.set_status(
        actor=_actor(operator),
        tenant_key=operator.tenant.key,
        state_id=state_id,
        change=alert_states.Change(
            status, snoozed_until=until if status == AlertState.Status.SNOOZED else None
        ),
    )
    messages.success(request, f"{state.title} is {state.get_status_display().lower()}.")
    return back(request, reverse("ops:alerts"))


@require_http_methods(["GET", "HEAD", "POST"])
@operator_page("maintainer")
def new_rule(request: Any) -> HttpResponse:
    """A rule of the tenant, a customer or a metric."""
    given = {"type": "threshold", "action": "email", "enabled": "on"}
    given |= {name: value for name, value in filters_of(request, "customerRef").items() if value}
    problems: dict[str, str] = {}
    if request.method == "POST":
        given = request.POST.dict()
        try:
            values = validated(NewAlert, _body(given, new=True))
            alert_rules.create_rule(
                actor=_actor(request.operator), metric=values.pop("metric", None), values=values
            )
        except ProblemError as problem:
            problems = by_field(problem)
        else:
            wake_alerts()
            messages.success(request, "Created. Usage that already reaches it speaks at once.")
            return redirect("ops:alert-rules")
    context = {"title": "New alert rule", **_form(request, given, problems)}
    return render(request, "billing/alert_rule.html", context, status=400 if problems else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_page("maintainer")
def edit_rule(request: Any, rule_id: UUID) -> HttpResponse:
    """Threshold, action and receivers; scope and type are fixed."""
    operator: Operator = request.operator
    found = AlertRule.objects.filter(
        tenant=operator.tenant, pk=rule_id, deleted_at__isnull=True
    ).first()
    if found is None:
        raise Http404
    given, problems = _given(found), {}
    if request.method == "POST":
        given = {**given, "enabled": "", **request.POST.dict()}
        try:
            changes = validated(AlertChanges, _body(given, new=False))
            alert_rules.update_rule(actor=_actor(operator), rule_id=rule_id, changes=changes)
        except ProblemError as problem:
            problems = by_field(problem)
        else:
            wake_alerts()
            messages.success(request, "Saved.")
            return redirect("ops:alert-rules")
    context = {"title": "Alert rule", "rule": found, **_form(request, given, problems)}
    return render(request, "billing/alert_rule.html", context, status=400 if problems else 200)


@require_POST
@operator_page("maintainer")
def delete_rule(request: Any, rule_id: UUID) -> HttpResponse:
    """It says nothing more; what it said stays."""
    alert_rules.delete_rule(actor=_actor(request.operator), rule_id=rule_id)
    messages.success(request, "Deleted. What it said stays in the list.")
    return redirect("ops:alert-rules")


@require_GET
@operator_page()
def alerts_panel(request: Any) -> HttpResponse:
    """How many alerts nobody has looked at, and the newest of them."""
    tenant_id = request.operator.tenant.pk
    counts = reads.open_alert_counts(tenant_id=tenant_id)
    newest = reads.alert_states(tenant_id=tenant_id, status="triggered").order_by("-pk")[:4]
    context = {
        "total": sum(counts.values()),
        "critical": counts.get("critical", 0),
        "counts": counts,
        "newest": list(newest),
    }
    return render_panel(request, "billing/_alerts_panel.html", context)


def _actor(operator: Operator) -> Actor:
    return Actor(operator.tenant.pk, operator.actor, clock.now())


def _body(given: dict[str, str], *, new: bool) -> dict[str, Any]:
    """The form as the API's body."""
    config: dict[str, Any] = {}
    for name in CONFIG_TEXTS:
        value = given.get(name, "").strip()
        if value:
            config[name] = number(value) if name in {"minimum", "baselineDays"} else value
    if "to" in config:
        config["to"] = [each.strip() for each in config["to"].split(",") if each.strip()]
    body: dict[str, Any] = {
        "threshold": given.get("threshold", "").strip(),
        "action": given.get("action", ""),
        "config": config,
        "enabled": given.get("enabled") == "on",
    }
    if new:
        body["type"] = given.get("type", "")
        for name in ("customerRef", "metric"):
            if given.get(name, "").strip():
                body[name] = given[name].strip()
    return body


def _given(rule: AlertRule) -> dict[str, str]:
    shown = {name: str(rule.config.get(name, "")) for name in CONFIG_TEXTS}
    shown["to"] = ", ".join(rule.config.get("to", []))
    return shown | {
        "type": rule.type,
        "action": rule.action,
        "threshold": plain(rule.threshold),
        "enabled": "on" if rule.enabled else "",
        "customerRef": rule.customer_ref or "",
        "metric": rule.metric.name if rule.metric else "",
        "updated": rfc3339(rule.updated_at),
    }


def _form(request: Any, given: dict[str, str], problems: dict[str, str]) -> dict[str, Any]:
    hints = (
        ("to", "Mail to", "Addresses with commas. Empty: the owners", "email"),
        ("webhookUrl", "Slack incoming webhook", "https://hooks.slack.com/…", "slack"),
        ("currency", "Currency of a budget", "Empty: the only one of the bill", "budget"),
        ("baselineDays", "Days a spike is compared with", "Empty: 7", "spike"),
        ("minimum", "Ignore spikes below", "Units a day. Empty: none is ignored", "spike"),
    )
    known = {"threshold", "type", "action", "customerRef", "metric"}
    known |= {f"config.{name}" for name, *_ in hints}
    return {
        "given": given,
        "problems": problems,
        "general": [text for name, text in problems.items() if name not in known],
        "types": AlertRule.Type.choices,
        "actions": AlertRule.Action.choices,
        "severities": AlertState.Severity.choices,
        "texts": [
            {"name": name, "label": label, "hint": hint, "value": given.get(name, ""),
             "wrong": problems.get(f"config.{name}")}
            for name, label, hint, _ in hints
        ],
        "metrics": list(
            Metric.objects.filter(tenant=request.operator.tenant)
            .order_by("name")
            .values_list("name", flat=True)[:1_000]
        ),
    }  # fmt: skip
