"""Writes of simulations: scenarios, runs, batches. None of it touches billing state."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import uuid_utils
from django.db import transaction

from billing.models import SimulationBatch, SimulationRun, SimulationScenario
from billing.pricing import PricingError
from billing.simulation.scenarios import InvalidScenario, Scenario, read_scenario, run_scenario
from stripemeter.lib import strictjson
from stripemeter.lib.errors import FieldError, InvalidRequest, NotFound

#: Runs computed by one task; a run takes milliseconds.
RUNS_PER_TASK = 200
BATCH_MAX = 500
ITEMS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Author:
    """Who simulates, for which tenant, and when."""

    tenant_id: int
    name: str
    now: datetime


def _new_id() -> UUID:
    return UUID(bytes=uuid_utils.uuid7().bytes)


def plain(document: dict[str, Any]) -> dict[str, Any]:
    """``document`` as JSON keeps it, Decimals as text: no float is made on the way back."""
    found = strictjson.loads(strictjson.dumps(document, decimals_as_text=True))
    assert isinstance(found, dict)
    return found


def check_document(document: Any) -> Scenario:
    """The scenario that the document describes. Raises `InvalidRequest`."""
    if not isinstance(document, dict):
        raise InvalidRequest("scenario must be an object")
    inputs = document.get("inputs")
    items = inputs.get("usageItems") if isinstance(inputs, dict) else None
    if isinstance(items, list) and len(items) > ITEMS_MAX:
        raise InvalidRequest(f"inputs.usageItems may have at most {ITEMS_MAX} items")
    name = document.get("name")
    if not isinstance(name, str) or not 1 <= len(name) <= 255:
        raise InvalidRequest("name must have 1 to 255 characters")
    try:
        return read_scenario(document, expected_required=False)
    except InvalidScenario as error:
        issues = [FieldError(i.code, i.detail, i.path) for i in error.issues[:100]]
        raise InvalidRequest(
            "Invalid scenario configuration", code="invalid_scenario", errors=issues
        ) from error


@transaction.atomic
def create_scenario(*, author: Author, document: dict[str, Any]) -> SimulationScenario:
    """Store a scenario. Raises `InvalidRequest`."""
    columns = _columns(document)
    return SimulationScenario.objects.create(
        id=_new_id(),
        tenant_id=author.tenant_id,
        created_by=author.name,
        created_at=author.now,
        updated_at=author.now,
        **columns,
    )


def _columns(document: dict[str, Any]) -> dict[str, Any]:
    scenario = check_document(document)
    return {
        "name": scenario.name,
        "description": scenario.description,
        "version": scenario.version,
        "tags": list(scenario.tags),
        "document": plain(document),
    }


@transaction.atomic
def update_scenario(
    *, author: Author, scenario_id: UUID, changes: dict[str, Any]
) -> SimulationScenario:
    """Replace members of the document. Raises `NotFound`, `InvalidRequest`."""
    scenario = locked_scenario(tenant_id=author.tenant_id, scenario_id=scenario_id)
    for name, value in _columns({**scenario.document, **changes}).items():
        setattr(scenario, name, value)
    scenario.updated_at = author.now
    scenario.save()
    return scenario


@transaction.atomic
def delete_scenario(*, author: Author, scenario_id: UUID) -> None:
    """Take a scenario off the list; its runs stay. Raises `NotFound`."""
    scenario = locked_scenario(tenant_id=author.tenant_id, scenario_id=scenario_id)
    scenario.active = False
    scenario.updated_at = author.now
    scenario.save(update_fields=["active", "updated_at"])


def locked_scenario(*, tenant_id: int, scenario_id: UUID) -> SimulationScenario:
    """The tenant's scenario, locked. Raises `NotFound`."""
    found = (
        SimulationScenario.objects.select_for_update()
        .filter(tenant_id=tenant_id, pk=scenario_id)
        .first()
    )
    if found is None:
        raise NotFound("Scenario not found")
    return found


@transaction.atomic
def queue_run(
    *,
    author: Author,
    scenario: SimulationScenario | None,
    document: dict[str, Any],
    metadata: dict[str, Any] | None = None,
    batch: SimulationBatch | None = None,
) -> SimulationRun:
    """A run waiting to be computed, with the scenario as it is now. Raises `InvalidRequest`."""
    checked = check_document(document)
    return SimulationRun.objects.create(
        id=_new_id(),
        tenant_id=author.tenant_id,
        scenario=scenario,
        batch=batch,
        name=checked.name,
        description=checked.description,
        snapshot=plain(document),
        triggered_by=author.name,
        metadata=metadata,
        created_at=author.now,
    )


@transaction.atomic
def queue_batch(
    *, author: Author, name: str, description: str, scenario_ids: list[UUID]
) -> SimulationBatch:
    """A run of each scenario. Raises `InvalidRequest` if one is not the tenant's."""
    wanted = list(dict.fromkeys(scenario_ids))
    scenarios = SimulationScenario.objects.filter(
        tenant_id=author.tenant_id, pk__in=wanted, active=True
    ).in_bulk()
    if len(scenarios) != len(wanted):
        raise InvalidRequest("Some scenarios not found or not accessible", code="unknown_scenario")
    batch = SimulationBatch.objects.create(
        id=_new_id(),
        tenant_id=author.tenant_id,
        name=name,
        description=description,
        created_by=author.name,
        created_at=author.now,
    )
    for scenario_id in wanted:
        scenario = scenarios[scenario_id]
        queue_run(author=author, scenario=scenario, document=scenario.document, batch=batch)
    return batch


def compute_pending(*, now: datetime) -> int:
    """Compute waiting runs, oldest first; how many. Any number of workers may do it at once."""
    computed = 0
    while computed < RUNS_PER_TASK and _compute_next(now):
        computed += 1
    return computed


@transaction.atomic
def _compute_next(now: datetime) -> bool:
    run = (
        SimulationRun.objects.select_for_update(skip_locked=True)
        .filter(status=SimulationRun.Status.PENDING)
        .order_by("created_at", "pk")
        .first()
    )
    if run is None:
        return False
    run.started_at = now
    try:
        outcome = run_scenario(read_scenario(run.snapshot, expected_required=False))
    except (PricingError, InvalidScenario) as error:
        run.status, run.error = SimulationRun.Status.FAILED, str(error)[:1_000]
    else:
        run.status = SimulationRun.Status.COMPLETED
        run.result = plain(outcome.result())
        run.passed = outcome.passed
        if outcome.comparison is not None:
            run.comparison = plain(outcome.comparison.as_dict())
    run.completed_at = now
    run.save()
    return True
