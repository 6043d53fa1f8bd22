"""Operator pages of reconciliation, in the namespace ``ops``."""

from django.urls import path

from reconciliation import views

urlpatterns = [
    path("panels/reconciliation", views.reconciliation_panel, name="reconciliation-panel"),
    path("panels/customer-findings", views.customer_findings, name="customer-findings"),
    path("reconciliation/", views.reconciliation, name="reconciliation"),
    path("reconciliation/run", views.start_run, name="run-start"),
    path("findings/", views.findings, name="findings"),
    path("findings/<uuid:finding_id>", views.finding, name="finding"),
    path("findings/<uuid:finding_id>/decide", views.decide, name="finding-decide"),
]
