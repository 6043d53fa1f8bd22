"""Routes of the counters."""

from django.urls import path

from counters import api

urlpatterns = [
    path("v1/usage/current", api.CurrentUsageView.as_view(), name="usage-current"),
    path("v1/usage/history", api.UsageHistoryView.as_view(), name="usage-history"),
]
