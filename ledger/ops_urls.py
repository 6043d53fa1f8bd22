"""Operator pages of the ledger, in the namespace ``ops``."""

from django.urls import path

from ledger.views import backfill, events, operations

urlpatterns = [
    path("panels/ingest", events.ingest_panel, name="ingest-panel"),
    path("events/", events.events, name="events"),
    path("events/<uuid:key>", events.event, name="event"),
    path("backfill/", backfill.backfill_page, name="backfill"),
    path("backfill/check", backfill.check, name="backfill-check"),
    path("operations/", operations.operations, name="operations"),
    path("operations/<uuid:operation_id>", operations.operation, name="operation"),
    path("operations/<uuid:operation_id>/progress", operations.progress, name="operation-progress"),
    path("operations/<uuid:operation_id>/cancel", operations.cancel, name="operation-cancel"),
    path("operations/<uuid:operation_id>/resume", operations.resume, name="operation-resume"),
    path("operations/<uuid:operation_id>/errors.csv", operations.errors, name="operation-errors"),
]
