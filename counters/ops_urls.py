"""Operator pages of the counters, in the namespace ``ops``."""

from django.urls import path

from counters import views

urlpatterns = [
    path("panels/freshness", views.freshness_panel, name="freshness-panel"),
]
