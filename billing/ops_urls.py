"""Operator pages of billing, in the namespace ``ops``."""

from django.urls import path

from billing.views import (
    alerts,
    customers,
    mapping_check,
    mappings,
    panels,
    pushes,
    shadow,
    webhooks,
)

urlpatterns = [
    path("panels/pushes", panels.push_panel, name="push-panel"),
    path("panels/money", panels.money_panel, name="money-panel"),
    path("panels/accounts", panels.accounts_panel, name="accounts-panel"),
    path("panels/events/<uuid:key>/pushes", panels.event_pushes, name="event-pushes"),
    path("panels/alerts", alerts.alerts_panel, name="alerts-panel"),
    path("alerts/", alerts.alerts, name="alerts"),
    path("alerts/<uuid:state_id>/change", alerts.change_alert, name="alert-change"),
    path("alerts/rules", alerts.alert_rules_page, name="alert-rules"),
    path("alerts/rules/new", alerts.new_rule, name="alert-rule-new"),
    path("alerts/rules/<uuid:rule_id>", alerts.edit_rule, name="alert-rule"),
    path("alerts/rules/<uuid:rule_id>/delete", alerts.delete_rule, name="alert-rule-delete"),
    path("webhooks/", webhooks.webhooks, name="webhooks"),
    path("webhooks/new", webhooks.new_endpoint, name="webhook-new"),
    path("webhooks/<uuid:endpoint_id>", webhooks.endpoint, name="webhook"),
    path("webhooks/<uuid:endpoint_id>/rotate", webhooks.rotate, name="webhook-rotate"),
    path("webhooks/<uuid:endpoint_id>/test", webhooks.send_test, name="webhook-test"),
    path("webhooks/<uuid:endpoint_id>/delete", webhooks.delete, name="webhook-delete"),
    path("webhooks/messages/<uuid:delivery_id>", webhooks.delivery, name="delivery"),
    path("webhooks/messages/<uuid:delivery_id>/again", webhooks.redeliver, name="redeliver"),
    path("customers/", customers.customers, name="customers"),
    # The reference may hold any character, so it is a parameter.
    path("customers/customer", customers.customer, name="customer"),
    path("pushes/", pushes.pushes, name="pushes"),
    path("pushes/now", pushes.push_now, name="push-now"),
    path("pushes/release", pushes.release_cursors, name="cursors-release"),
    path("pushes/<uuid:push_id>", pushes.push, name="push"),
    path("pushes/<uuid:push_id>/settle", pushes.settle_push, name="push-settle"),
    path("accounts/", pushes.accounts, name="accounts"),
    path("accounts/<int:account_id>/resume", pushes.resume, name="account-resume"),
    path("mappings/", mappings.mappings, name="mappings"),
    path("mappings/new", mappings.new_mapping, name="mapping-new"),
    path("mappings/<uuid:mapping_id>", mappings.mapping, name="mapping"),
    path("mappings/check", mapping_check.check_mapping, name="mapping-check"),
    path("mappings/<uuid:mapping_id>/shadow", shadow.shadow, name="mapping-shadow"),
    path(
        "mappings/<uuid:mapping_id>/cutover/request",
        shadow.request_cutover,
        name="mapping-cutover-request",
    ),
    path(
        "mappings/<uuid:mapping_id>/cutover/approve",
        shadow.approve_cutover,
        name="mapping-cutover-approve",
    ),
    path(
        "mappings/<uuid:mapping_id>/cutover/withdraw",
        shadow.withdraw_cutover,
        name="mapping-cutover-withdraw",
    ),
    path("mappings/<uuid:mapping_id>/end", mappings.end_mapping, name="mapping-end"),
]
