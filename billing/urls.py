"""Routes of billing."""

from django.urls import path

from billing import (
    alerts_api,
    caps_api,
    customers_api,
    diagnosis_api,
    mappings_api,
    notices_api,
    projection_api,
    pushes_api,
    simulations_api,
    terms_api,
    webhook_views,
    whatif_api,
)

urlpatterns = [
    path("v1/diagnosis", diagnosis_api.DiagnosisView.as_view(), name="diagnosis"),
    path("v1/alerts", alerts_api.AlertsView.as_view(), name="alerts"),
    path("v1/alerts/history", alerts_api.AlertHistoryView.as_view(), name="alert-history"),
    path("v1/alerts/events", alerts_api.AlertEventsView.as_view(), name="alert-events"),
    path("v1/alerts/states", alerts_api.AlertStatesView.as_view(), name="alert-states"),
    path(
        "v1/alerts/states/<str:state_id>", alerts_api.AlertStateView.as_view(), name="alert-state"
    ),
    path("v1/alerts/<str:alert_id>", alerts_api.AlertView.as_view(), name="alert"),
    path("v1/caps/check", caps_api.CapCheckView.as_view(), name="caps-check"),
    path("v1/webhook-endpoints", notices_api.EndpointsView.as_view(), name="webhook-endpoints"),
    path(
        "v1/webhook-endpoints/<str:endpoint_id>",
        notices_api.EndpointView.as_view(),
        name="webhook-endpoint",
    ),
    path(
        "v1/webhook-endpoints/<str:endpoint_id>/rotate",
        notices_api.RotateEndpointView.as_view(),
        name="webhook-endpoint-rotate",
    ),
    path(
        "v1/webhook-endpoints/<str:endpoint_id>/test",
        notices_api.TestEndpointView.as_view(),
        name="webhook-endpoint-test",
    ),
    path("v1/webhook-deliveries", notices_api.DeliveriesView.as_view(), name="webhook-deliveries"),
    path(
        "v1/webhook-deliveries/<str:delivery_id>",
        notices_api.DeliveryView.as_view(),
        name="webhook-delivery",
    ),
    path(
        "v1/webhook-deliveries/<str:delivery_id>/redeliver",
        notices_api.RedeliverView.as_view(),
        name="webhook-redeliver",
    ),
    path("v1/simulations/scenarios", simulations_api.ScenariosView.as_view(), name="scenarios"),
    path(
        "v1/simulations/scenarios/<str:scenario_id>",
        simulations_api.ScenarioView.as_view(),
        name="scenario",
    ),
    path("v1/simulations/runs", simulations_api.RunsView.as_view(), name="simulation-runs"),
    path(
        "v1/simulations/runs/<str:run_id>",
        simulations_api.RunView.as_view(),
        name="simulation-run",
    ),
    path("v1/simulations/batch", simulations_api.BatchesView.as_view(), name="simulation-batches"),
    path(
        "v1/simulations/batch/<str:batch_id>",
        simulations_api.BatchView.as_view(),
        name="simulation-batch",
    ),
    path("v1/simulations/whatif", whatif_api.WhatIfsView.as_view(), name="what-ifs"),
    path("v1/simulations/whatif/<str:run_id>", whatif_api.WhatIfView.as_view(), name="what-if"),
    path(
        "v1/simulations/whatif/<str:run_id>/customers",
        whatif_api.WhatIfCustomersView.as_view(),
        name="what-if-customers",
    ),
    path("v1/terms", terms_api.TermsView.as_view(), name="terms"),
    path("v1/usage/projection", projection_api.ProjectionView.as_view(), name="usage-projection"),
    path("v1/mappings", mappings_api.MappingsView.as_view(), name="mappings"),
    path("v1/mappings/<str:mapping_id>", mappings_api.MappingView.as_view(), name="mapping"),
    path(
        "v1/mappings/<str:mapping_id>/release",
        pushes_api.ReleaseView.as_view(),
        name="mapping-release",
    ),
    path("v1/customers", customers_api.CustomersView.as_view(), name="customer-links"),
    path("v1/customers/<str:link_id>", customers_api.CustomerView.as_view(), name="customer-link"),
    path("v1/pushes", pushes_api.PushesView.as_view(), name="pushes"),
    path("v1/pushes/run", pushes_api.RunPushesView.as_view(), name="pushes-run"),
    path(
        "v1/pushes/<str:push_id>/settle",
        pushes_api.SettlePushView.as_view(),
        name="push-settle",
    ),
    path("webhooks/stripe", webhook_views.stripe_webhook, name="stripe-webhook"),
    path("webhooks/stripe/", webhook_views.stripe_webhook),
    path("webhooks/stripe/thin", webhook_views.stripe_webhook, name="stripe-webhook-thin"),
    path("webhooks/stripe/thin/", webhook_views.stripe_webhook),
]
