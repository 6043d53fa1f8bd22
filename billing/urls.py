"""Routes of billing."""

from django.urls import path

from billing import projection_api

urlpatterns = [
    path("v1/usage/projection", projection_api.ProjectionView.as_view(), name="usage-projection"),
]
