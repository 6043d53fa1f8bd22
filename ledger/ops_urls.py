"""Operator pages of the ledger, in the namespace ``ops``."""

from django.urls import path

from ledger import views

urlpatterns = [
    path("panels/ingest", views.ingest_panel, name="ingest-panel"),
    path("events/", views.events, name="events"),
    path("events/<uuid:key>", views.event, name="event"),
]
