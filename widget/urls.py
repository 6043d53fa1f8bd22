"""Routes of the widget: servers come by ``/v1``, the customer's browser by ``/widget``."""

from django.urls import path

from widget import api, views

urlpatterns = [
    path("v1/widget/sessions", api.SessionsView.as_view(), name="widget-sessions"),
    path("v1/widget/sessions/<str:session_id>", api.SessionView.as_view(), name="widget-session"),
    path("widget/tokens", api.TokensView.as_view(), name="widget-tokens"),
    path("widget/usage", views.usage, name="widget-usage"),
    path("widget/usage/body", views.body, name="widget-body"),
    path("widget/usage/events", views.events, name="widget-events"),
    path("widget/usage/events.csv", views.events_csv, name="widget-events-csv"),
    path("widget/embed", views.embed, name="widget-embed"),
]
