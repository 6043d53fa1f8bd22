"""Routes of the ledger under ``/v1/events``."""

from django.urls import path

from ledger import api, backfill_api, list_api, operation_api

urlpatterns = [
    path("v1/events", list_api.EventsView.as_view(), name="event-list"),
    path("v1/events/ingest", api.IngestView.as_view(), name="event-ingest"),
    path("v1/events/backfill", backfill_api.BackfillsView.as_view(), name="backfills"),
    path(
        "v1/events/backfill/<str:operation_id>",
        backfill_api.BackfillView.as_view(),
        name="backfill",
    ),
    path(
        "v1/events/backfill/<str:operation_id>/errors",
        backfill_api.BackfillErrorsView.as_view(),
        name="backfill-errors",
    ),
    path("v1/operations", operation_api.OperationsView.as_view(), name="operations"),
    path(
        "v1/operations/<str:operation_id>",
        operation_api.OperationView.as_view(),
        name="operation",
    ),
    path(
        "v1/operations/<str:operation_id>/cancel",
        operation_api.CancelOperationView.as_view(),
        name="operation-cancel",
    ),
    path(
        "v1/operations/<str:operation_id>/resume",
        operation_api.ResumeOperationView.as_view(),
        name="operation-resume",
    ),
]
