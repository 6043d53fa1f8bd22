"""Routes of reconciliation."""

from django.urls import path, re_path

from reconciliation import findings_api, reports_api, runs_api

urlpatterns = [
    path("v1/reconciliation/run", runs_api.RunView.as_view(), name="reconciliation-run"),
    path("v1/reconciliation/runs", runs_api.RunsView.as_view(), name="reconciliation-runs"),
    path(
        "v1/reconciliation/runs/<uuid:job_id>",
        runs_api.RunDetailView.as_view(),
        name="reconciliation-run-detail",
    ),
    path(
        "v1/reconciliation/summary",
        reports_api.SummaryView.as_view(),
        name="reconciliation-summary",
    ),
    path("v1/reconciliation/findings", findings_api.FindingsView.as_view(), name="findings"),
    path(
        "v1/reconciliation/findings/<uuid:finding_id>",
        findings_api.FindingView.as_view(),
        name="finding",
    ),
    re_path(
        r"^v1/reconciliation/(?P<period>[0-9]{4}-[0-9]{2})$",
        reports_api.PeriodView.as_view(),
        name="reconciliation-period",
    ),
]
