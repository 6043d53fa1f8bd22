"""Routes of reconciliation."""

from django.urls import path, re_path

from reconciliation import closes_api, exports_api, findings_api, repairs_api, reports_api, runs_api

_PLAN = "v1/reconciliation/repair-plans/<uuid:plan_id>"

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
    path("v1/reconciliation/repair-plans", repairs_api.PlansView.as_view(), name="repair-plans"),
    path(_PLAN, repairs_api.PlanView.as_view(), name="repair-plan"),
    path(f"{_PLAN}/approve", repairs_api.ApproveView.as_view(), name="repair-plan-approve"),
    path(f"{_PLAN}/reject", repairs_api.RejectView.as_view(), name="repair-plan-reject"),
    path(f"{_PLAN}/apply", repairs_api.ApplyView.as_view(), name="repair-plan-apply"),
    path(f"{_PLAN}/verify", repairs_api.VerifyView.as_view(), name="repair-plan-verify"),
    path(f"{_PLAN}/undo", repairs_api.UndoView.as_view(), name="repair-plan-undo"),
    path(
        "v1/reconciliation/adjustments",
        closes_api.ApprovalsView.as_view(),
        name="reconciliation-adjustments",
    ),
    path("v1/reconciliation/closes", closes_api.ClosesView.as_view(), name="closes"),
    path(
        "v1/reconciliation/closes/<str:period>",
        closes_api.CloseBoardView.as_view(),
        name="close-board",
    ),
    path(
        "v1/reconciliation/closes/<str:period>/certificate",
        closes_api.SealView.as_view(),
        name="close-certificate",
    ),
    path("v1/reconciliation/exports", exports_api.ExportsView.as_view(), name="exports"),
    path(
        "v1/reconciliation/exports/download",
        exports_api.DownloadView.as_view(),
        name="export-download",
    ),
    path(
        "v1/reconciliation/exports/<uuid:export_id>",
        exports_api.ExportView.as_view(),
        name="export",
    ),
    re_path(
        r"^v1/reconciliation/(?P<period>[0-9]{4}-[0-9]{2})$",
        reports_api.PeriodView.as_view(),
        name="reconciliation-period",
    ),
]
