"""Routes of the ledger under ``/v1/events``."""

from django.urls import path

from ledger import api, list_api

urlpatterns = [
    path("v1/events", list_api.EventsView.as_view(), name="event-list"),
    path("v1/events/ingest", api.IngestView.as_view(), name="event-ingest"),
]
