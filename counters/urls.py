"""Routes of the counters."""

from django.urls import path

from counters import api, calendar_api, metrics_api

urlpatterns = [
    path("v1/metrics", metrics_api.MetricsView.as_view(), name="metrics"),
    path("v1/metrics/<str:name>", metrics_api.MetricView.as_view(), name="metric"),
    path("v1/usage/current", api.CurrentUsageView.as_view(), name="usage-current"),
    path("v1/usage/history", api.UsageHistoryView.as_view(), name="usage-history"),
    path("v1/calendars", calendar_api.CalendarsView.as_view(), name="calendars"),
    path("v1/periods", calendar_api.PeriodsView.as_view(), name="periods"),
]
