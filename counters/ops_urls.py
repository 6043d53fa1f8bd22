"""Operator pages of the counters, in the namespace ``ops``."""

from django.urls import path

from counters.views import adjustments, metrics, panels, periods, replay, totals

urlpatterns = [
    path("panels/freshness", panels.freshness_panel, name="freshness-panel"),
    path("panels/periods", panels.periods_panel, name="periods-panel"),
    path("customers/total", totals.total, name="total"),
    path("panels/events/<uuid:key>/counter", totals.event_counter, name="event-counter"),
    path("adjustments/", adjustments.adjustments, name="adjustments"),
    path("adjustments/new", adjustments.create_adjustment, name="adjustment-new"),
    path(
        "adjustments/<uuid:adjustment_id>/approve",
        adjustments.approve_adjustment,
        name="adjustment-approve",
    ),
    path(
        "adjustments/<uuid:adjustment_id>/reject",
        adjustments.reject_adjustment,
        name="adjustment-reject",
    ),
    path(
        "adjustments/<uuid:adjustment_id>/revert",
        adjustments.revert_adjustment,
        name="adjustment-revert",
    ),
    path(
        "adjustments/<uuid:adjustment_id>/carry",
        adjustments.carry_adjustment,
        name="adjustment-carry",
    ),
    path("periods/", periods.periods, name="periods"),
    path("periods/set", periods.set_periods, name="periods-set"),
    path("periods/clear", periods.clear_periods, name="periods-clear"),
    path("replay/", replay.replay_page, name="replay"),
    path("replay/apply", replay.apply, name="replay-apply"),
    path("metrics/", metrics.metrics, name="metrics"),
    path("metrics/<str:name>", metrics.metric, name="metric"),
    path("inbox/", metrics.inbox, name="inbox"),
    path("inbox/conflicts/<int:conflict_id>", metrics.resolve_conflict, name="conflict-resolve"),
]
