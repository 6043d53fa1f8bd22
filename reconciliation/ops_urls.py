"""Operator pages of reconciliation, in the namespace ``ops``."""

from django.urls import path

from reconciliation import views

urlpatterns = [
    path("panels/reconciliation", views.reconciliation_panel, name="reconciliation-panel"),
    path("panels/customer-findings", views.customer_findings, name="customer-findings"),
    path("reconciliation/", views.reconciliation, name="reconciliation"),
    path("reconciliation/run", views.start_run, name="run-start"),
    path("reconciliation/runs/<uuid:run_id>", views.run, name="run"),
    path("repair-plans/", views.plans, name="plans"),
    path("repair-plans/new", views.propose, name="plan-new"),
    path("repair-plans/<uuid:plan_id>", views.plan, name="plan"),
    path("repair-plans/<uuid:plan_id>/<slug:verb>", views.act, name="plan-act"),
    path("closes/", views.closes, name="closes"),
    path("closes/<slug:month>", views.close, name="close"),
    path("closes/<slug:month>/close", views.close_period, name="close-period"),
    path("closes/<slug:month>/certify", views.certify, name="certify"),
    path("closes/<slug:month>/certificate", views.certificate, name="certificate"),
    path("closes/<slug:month>/check", views.certificate_check, name="certificate-check"),
    path("exports/", views.exports, name="exports"),
    path("exports/new", views.request_export, name="export-new"),
    path("exports/<uuid:export_id>", views.export, name="export"),
    path("findings/", views.findings, name="findings"),
    path("findings/<uuid:finding_id>", views.finding, name="finding"),
    path("findings/<uuid:finding_id>/decide", views.decide, name="finding-decide"),
]
