"""Configures metrics: what a metric counts decides what its counters hold."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import transaction

from counters import locks
from counters.models import Counter
from counters.services.recompute import Scope, recompute
from ledger.models import Metric
from stripemeter.lib.errors import Conflict, InvalidRequest, NotFound
from stripemeter.lib.text import metric_problem
from stripemeter.tenancy import audit

_BEGINNING, _END = datetime(2000, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)

#: Asked before an aggregation changes; each returns why it must not, or None. Apps above
#: register here, since this one does not know them.
aggregation_guards: list[Callable[[Metric], str | None]] = []


@dataclass(frozen=True, slots=True)
class MetricSettings:
    """What an operator decides about a metric; None leaves a setting as it is."""

    aggregation: str | None = None
    unique_field: str | None = None
    unit: str | None = None
    description: str | None = None
    lateness_window_hours: int | None = None
    #: True takes the metric's own window away, so that the tenant's holds.
    clears_lateness_window: bool = False


def shown(metric: Metric) -> dict[str, Any]:
    """The metric's settings as audit and wire show them."""
    return {
        "name": metric.name,
        "aggregation": metric.aggregation,
        "uniqueField": metric.unique_field,
        "unit": metric.unit,
        "description": metric.description,
        "latenessWindowHours": metric.lateness_window_hours,
        "configured": metric.configured,
    }


@transaction.atomic
def create_metric(
    *, tenant_id: int, name: str, settings: MetricSettings, actor: str, now: datetime
) -> Metric:
    """A configured metric. Raises `InvalidRequest`, or `Conflict` if the name is configured.

    A name that ingest registered before is configured in place.
    """
    problem = metric_problem(name)
    if problem:
        raise InvalidRequest(f"name {problem}", code="invalid_metric")
    metric, _ = Metric.objects.get_or_create(tenant_id=tenant_id, name=name)
    if metric.configured:
        raise Conflict(f"Metric {name} exists; change it with PUT.", code="metric_exists")
    return configure_metric(tenant_id=tenant_id, name=name, settings=settings, actor=actor, now=now)


@transaction.atomic
def configure_metric(
    *, tenant_id: int, name: str, settings: MetricSettings, actor: str, now: datetime
) -> Metric:
    """Apply ``settings``; a change of what is counted rebuilds the metric's counters.

    Raises `NotFound`, `InvalidRequest`, or `Conflict` when usage was billed under the old
    aggregation.
    """
    locks.fold_lock(tenant_id)
    metric = Metric.objects.select_for_update().filter(tenant_id=tenant_id, name=name).first()
    if metric is None:
        raise NotFound(f"No metric {name}")
    before = shown(metric)
    counted = (metric.aggregation, metric.unique_field)
    _apply(metric, settings)
    changed = (metric.aggregation, metric.unique_field) != counted
    if changed:
        refusals = [reason for guard in aggregation_guards if (reason := guard(metric))]
        if refusals:
            raise Conflict(refusals[0], code="aggregation_in_use")
    metric.save()
    if changed and Counter.objects.filter(tenant_id=tenant_id, metric_id=metric.pk).exists():
        recompute(Scope(tenant_id, (metric.pk,), _BEGINNING, _END))
    audit.record(
        tenant_id=tenant_id,
        actor=actor,
        action="metric.configured",
        object_type="metric",
        object_id=name,
        now=now,
        before=before,
        after=shown(metric),
    )
    return metric


def _apply(metric: Metric, settings: MetricSettings) -> None:
    if settings.aggregation is not None:
        if settings.aggregation not in Metric.Aggregation.values:
            known = ", ".join(Metric.Aggregation.values)
            raise InvalidRequest(f"aggregation must be one of {known}", code="invalid_choice")
        metric.aggregation = settings.aggregation
    if settings.unique_field is not None:
        field = settings.unique_field
        if field != "resourceId" and not (field.startswith("meta.") and len(field) > 5):
            raise InvalidRequest("uniqueField must be resourceId or meta.<name>")
        metric.unique_field = field
    if settings.unit is not None:
        metric.unit = settings.unit
    if settings.description is not None:
        metric.description = settings.description
    if settings.lateness_window_hours is not None:
        metric.lateness_window_hours = settings.lateness_window_hours
    elif settings.clears_lateness_window:
        metric.lateness_window_hours = None
    metric.configured = True
