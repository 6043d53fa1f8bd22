"""Routes of the counters."""

from django.urls import path

from counters import adjustment_api, api, calendar_api, metrics_api, replay_api

urlpatterns = [
    path("v1/metrics", metrics_api.MetricsView.as_view(), name="metrics"),
    path("v1/metrics/<str:name>", metrics_api.MetricView.as_view(), name="metric"),
    path("v1/usage/current", api.CurrentUsageView.as_view(), name="usage-current"),
    path("v1/usage/history", api.UsageHistoryView.as_view(), name="usage-history"),
    path("v1/adjustments", adjustment_api.AdjustmentsView.as_view(), name="adjustments"),
    path(
        "v1/adjustments/<str:adjustment_id>",
        adjustment_api.AdjustmentView.as_view(),
        name="adjustment",
    ),
    path(
        "v1/adjustments/<str:adjustment_id>/approve",
        adjustment_api.ApproveAdjustmentView.as_view(),
        name="adjustment-approve",
    ),
    path(
        "v1/adjustments/<str:adjustment_id>/reject",
        adjustment_api.RejectAdjustmentView.as_view(),
        name="adjustment-reject",
    ),
    path(
        "v1/adjustments/<str:adjustment_id>/revert",
        adjustment_api.RevertAdjustmentView.as_view(),
        name="adjustment-revert",
    ),
    path("v1/calendars", calendar_api.CalendarsView.as_view(), name="calendars"),
    path("v1/replay", replay_api.ReplayView.as_view(), name="replay"),
    path("v1/periods", calendar_api.PeriodsView.as_view(), name="periods"),
]
