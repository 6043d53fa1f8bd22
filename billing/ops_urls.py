"""Operator pages of billing, in the namespace ``ops``."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
