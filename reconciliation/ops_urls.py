"""Operator pages of reconciliation, in the namespace ``ops``."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
