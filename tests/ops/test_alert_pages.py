"""Alerts and webhooks on operator pages."""

from typing import Any

import pytest
from django.urls import reverse

from billing.models import AlertRule, AlertState, Delivery, WebhookEndpoint
from billing.services.alert_runs import evaluate_alerts
from stripemeter.lib import clock
from tests.ops.conftest import Office, use

RULE = {
    "type": "threshold", "action": "email", "threshold": "5", "enabled": "on",
    "metric": "api_calls", "customerRef": "", "to": "ops@acme.example",
}  # fmt: skip


def made_rule(office: Office) -> AlertRule:
    client = office.sign_in("maintainer", name="maker")
    assert client.post(reverse("ops:alert-rule-new"), RULE).status_code == 302
    return AlertRule.objects.get()


def test_a_rule_is_made_changed_and_deleted_by_a_maintainer_only(office: Office) -> None:
    url = reverse("ops:alert-rule-new")
    assert office.sign_in("viewer").post(url, RULE).status_code == 403
    rule = made_rule(office)
    client = office.sign_in("maintainer")
    wrong = client.post(url, RULE | {"to": "nobody"})
    assert wrong.status_code == 400
    assert 'aria-describedby="to-wrong"' in wrong.content.decode()
    edit = reverse("ops:alert-rule", args=[rule.pk])
    changed = {"threshold": "7.5", "action": "hard_cap"}
    assert client.post(edit, changed).status_code == 302
    rule.refresh_from_db()
    assert (str(rule.threshold), rule.action, rule.enabled) == ("7.5", "hard_cap", False)
    assert client.post(reverse("ops:alert-rule-delete", args=[rule.pk])).status_code == 302
    assert "No rule yet" in client.get(reverse("ops:alert-rules")).content.decode()
    stranger = office.sign_in("owner", name="theirs", tenant=office.globex)
    assert stranger.get(edit).status_code == 404


def test_an_alert_is_acknowledged_snoozed_and_resolved(office: Office) -> None:
    made_rule(office)
    evaluate_alerts(now=clock.now())
    state = AlertState.objects.get()
    change = reverse("ops:alert-change", args=[state.pk])
    assert office.sign_in("viewer").post(change, {"status": "resolved"}).status_code == 403
    client = office.sign_in("maintainer")
    panel = client.get(reverse("ops:alerts-panel")).content.decode()
    assert "acme-customer: api_calls reached 5" in panel
    for status in ("acknowledged", "snoozed", "resolved", "triggered"):
        assert client.post(change, {"status": status}).status_code == 302
        state.refresh_from_db()
        assert (state.status, state.changed_by) == (status, "user:maintainer-person")
    assert client.post(change, {"status": "nonsense"}).status_code == 404
    use(office.globex, "globex-other")
    assert "globex" not in client.get(reverse("ops:alerts")).content.decode()


def test_an_endpoint_shows_its_secret_once_and_its_log(office: Office, settings: Any) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = True
    form = {"url": "http://127.0.0.1:9/hook", "description": "x", "types": ["alert.*"]}
    client = office.sign_in("maintainer")
    new = reverse("ops:webhook-new")
    assert office.sign_in("viewer").post(new, form).status_code == 403
    refused = client.post(new, form | {"url": "ftp://x.example/"})
    assert refused.status_code == 400
    shown = client.post(new, form)
    assert "whsec_" in shown.content.decode()
    assert "no-store" in shown["Cache-Control"]
    endpoint = WebhookEndpoint.objects.get()
    page = reverse("ops:webhook", args=[endpoint.pk])
    assert "whsec_" not in client.get(page).content.decode()
    rotated = client.post(reverse("ops:webhook-rotate", args=[endpoint.pk]))
    assert "whsec_" in rotated.content.decode()
    assert client.post(reverse("ops:webhook-test", args=[endpoint.pk])).status_code == 302
    delivery = Delivery.objects.get()
    assert "webhook.test" in client.get(reverse("ops:webhooks")).content.decode()
    detail = client.get(reverse("ops:delivery", args=[delivery.pk]))
    assert delivery.message_id in detail.content.decode()
    Delivery.objects.update(status="failed")
    again = reverse("ops:redeliver", args=[delivery.pk])
    assert client.post(again).status_code == 302
    assert Delivery.objects.filter(message_id=delivery.message_id).count() == 2
    stranger = office.sign_in("owner", name="theirs", tenant=office.globex)
    assert stranger.get(page).status_code == 404
    assert stranger.post(again).status_code == 404


@pytest.mark.parametrize("page", ["alerts", "alert-rules", "alerts-panel", "webhooks"])
def test_a_viewer_of_another_tenant_sees_empty_lists(office: Office, page: str) -> None:
    made_rule(office)
    evaluate_alerts(now=clock.now())
    stranger = office.sign_in("viewer", name="theirs", tenant=office.globex)
    answer = stranger.get(reverse(f"ops:{page}"))
    assert answer.status_code == 200
    assert "acme" not in answer.content.decode().lower()
