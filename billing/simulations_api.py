"""``/v1/simulations``: scenarios, runs and batches of the invoice simulator."""

from collections import Counter
from decimal import Decimal
from typing import Any
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiParameter,
    extend_schema,
    extend_schema_serializer,
)
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.models import SimulationBatch, SimulationRun, SimulationScenario
from billing.services import simulations
from billing.simulation.scenarios import TAG_MAX, TAGS_MAX, VERSION_MAX
from billing.tasks import wake_simulations
from stripemeter.lib import clock
from stripemeter.lib.drf import StrictSerializer, TextField, query_choice, query_int, query_text
from stripemeter.lib.errors import InvalidRequest, NotFound
from stripemeter.lib.instants import rfc3339
from stripemeter.tenancy.api_base import TenantView

OFFSET_MAX = 10_000
_SORTS = {"name": "name", "createdAt": "created_at", "updatedAt": "updated_at"}
_PAGING = [
    OpenApiParameter("limit", int, description="1 to 100; 20 if absent"),
    OpenApiParameter("offset", int),
]
_Document = OpenApiTypes.OBJECT


class ScenarioInput(serializers.Serializer[Any]):
    """A scenario; `inputs` and `model` as in the scenario files."""

    name = serializers.CharField(max_length=255)
    model = serializers.DictField()
    inputs = serializers.DictField()
    description = serializers.CharField(required=False)
    version = serializers.CharField(required=False, max_length=VERSION_MAX)
    tags = serializers.ListField(
        child=serializers.CharField(max_length=TAG_MAX), max_length=TAGS_MAX, required=False
    )
    expected = serializers.DictField(required=False)
    tolerances = serializers.DictField(required=False)


class ScenarioHead(serializers.Serializer[Any]):
    """The answer to a write."""

    id = serializers.UUIDField()
    name = serializers.CharField()


@extend_schema_serializer(component_name="SimulationRun")
class RunInput(StrictSerializer):
    """A stored scenario by id, or one inline."""

    tenantId = TextField(required=False)
    scenarioId = serializers.UUIDField(required=False)
    scenario = serializers.DictField(required=False)
    name = TextField(required=False)
    description = TextField(max_length=2_000, required=False, allow_blank=True)
    metadata = serializers.DictField(required=False)


class BatchInput(StrictSerializer):
    """Scenarios to run together."""

    tenantId = TextField(required=False)
    name = TextField(min_length=1)
    description = TextField(max_length=2_000, required=False, allow_blank=True, default="")
    scenarioIds = serializers.ListField(
        child=serializers.UUIDField(), min_length=1, max_length=simulations.BATCH_MAX
    )


@extend_schema_serializer(component_name="SimulationQueued")
class QueuedOutput(serializers.Serializer[Any]):
    """A run that waits for a worker."""

    runId = serializers.UUIDField()
    status = serializers.CharField()
    message = serializers.CharField()


class _SimulationView(TenantView):
    scope_area = "simulation"

    def author(self) -> simulations.Author:
        """The caller; the tenant is the key's, whatever a header says."""
        return simulations.Author(self.principal.tenant_id, self.principal.actor, clock.now())

    def document(self, request: Request) -> dict[str, Any]:
        """The body as a document, without the tenant it may name."""
        if not isinstance(request.data, dict):
            raise InvalidRequest("The body must be an object.")
        return {name: value for name, value in request.data.items() if name != "tenantId"}


def _uuid(raw: str, what: str) -> UUID:
    try:
        return UUID(raw)
    except ValueError as error:
        raise NotFound(f"{what} not found") from error


class ScenariosView(_SimulationView):
    """The tenant's scenarios."""

    @extend_schema(
        operation_id="listScenarios",
        parameters=[
            *_PAGING,
            OpenApiParameter("active", bool),
            OpenApiParameter("tag", str),
            OpenApiParameter("sortBy", str, enum=list(_SORTS)),
            OpenApiParameter("sortOrder", str, enum=["asc", "desc"]),
        ],
        responses=_Document,
        tags=["Simulations"],
    )
    def get(self, request: Request) -> Response:
        """One page of scenarios."""
        self.check_tenant()
        found = SimulationScenario.objects.filter(tenant_id=self.principal.tenant_id)
        active = query_choice(request, "active", "", ("", "true", "false"))
        if active:
            found = found.filter(active=active == "true")
        tag = query_text(request, "tag")
        if tag:
            found = found.filter(tags__contains=[tag])
        column = _SORTS[query_choice(request, "sortBy", "createdAt", tuple(_SORTS))]
        sign = "" if query_choice(request, "sortOrder", "desc", ("asc", "desc")) == "asc" else "-"
        limit = query_int(request, "limit", 20, low=1, high=100)
        offset = query_int(request, "offset", 0, low=0, high=OFFSET_MAX)
        page = found.order_by(f"{sign}{column}", "pk")[offset : offset + limit]
        return Response(
            {
                "scenarios": [_shown_scenario(scenario) for scenario in page],
                "total": found.count(),
                "limit": limit,
                "offset": offset,
            }
        )

    @extend_schema(
        operation_id="createScenario",
        request=ScenarioInput,
        responses={201: ScenarioHead},
        tags=["Simulations"],
    )
    def post(self, request: Request) -> Response:
        """Store a scenario that can be run."""
        self.check_tenant(request.data)
        document = self.document(request)
        made = simulations.create_scenario(author=self.author(), document=document)
        answer = {"id": made.pk, "name": made.name, "createdAt": rfc3339(made.created_at)}
        return Response(answer, status=201)


class ScenarioView(_SimulationView):
    """One scenario."""

    @extend_schema(operation_id="getScenario", responses=_Document, tags=["Simulations"])
    def get(self, request: Request, scenario_id: str) -> Response:
        """The scenario in full."""
        self.check_tenant()
        found = SimulationScenario.objects.filter(
            tenant_id=self.principal.tenant_id, pk=_uuid(scenario_id, "Scenario")
        ).first()
        if found is None:
            raise NotFound("Scenario not found")
        return Response({**found.document, **_shown_scenario(found)})

    @extend_schema(
        operation_id="updateScenario",
        request=ScenarioInput,
        responses=ScenarioHead,
        tags=["Simulations"],
    )
    def put(self, request: Request, scenario_id: str) -> Response:
        """Replace members of the scenario."""
        self.check_tenant(request.data)
        made = simulations.update_scenario(
            author=self.author(),
            scenario_id=_uuid(scenario_id, "Scenario"),
            changes=self.document(request),
        )
        return Response({"id": made.pk, "name": made.name, "updatedAt": rfc3339(made.updated_at)})

    @extend_schema(operation_id="deleteScenario", responses={204: None}, tags=["Simulations"])
    def delete(self, request: Request, scenario_id: str) -> Response:
        """Take the scenario off the list; its runs stay."""
        self.check_tenant()
        simulations.delete_scenario(
            author=self.author(), scenario_id=_uuid(scenario_id, "Scenario")
        )
        return Response(status=204)


class RunsView(_SimulationView):
    """Runs of scenarios."""

    @extend_schema(
        operation_id="runScenario",
        request=RunInput,
        responses={202: QueuedOutput},
        tags=["Simulations"],
    )
    def post(self, request: Request) -> Response:
        """Queue a run of a stored scenario, or of one sent inline."""
        self.check_tenant(request.data)
        body = RunInput(data=request.data)
        body.is_valid(raise_exception=True)
        data = body.validated_data
        if ("scenarioId" in data) == ("scenario" in data):
            raise InvalidRequest("Give scenarioId or scenario, one of the two.")
        scenario = None
        if "scenarioId" in data:
            scenario = SimulationScenario.objects.filter(
                tenant_id=self.principal.tenant_id, pk=data["scenarioId"]
            ).first()
            if scenario is None:
                raise NotFound("Scenario not found")
        document = dict(scenario.document if scenario else self.document(request)["scenario"])
        for name in ("name", "description"):
            if name in data:
                document[name] = data[name]
        run = simulations.queue_run(
            author=self.author(),
            scenario=scenario,
            document=document,
            metadata=data.get("metadata"),
        )
        wake_simulations()
        message = "Simulation queued for execution"
        return Response({"runId": run.pk, "status": run.status, "message": message}, status=202)

    @extend_schema(
        operation_id="listSimulationRuns",
        parameters=[
            *_PAGING,
            OpenApiParameter("scenarioId", str),
            OpenApiParameter("status", str, enum=list(SimulationRun.Status.values)),
            OpenApiParameter("runType", str, enum=["manual", "scheduled", "ci"]),
        ],
        responses=_Document,
        tags=["Simulations"],
    )
    def get(self, request: Request) -> Response:
        """Runs, newest first."""
        self.check_tenant()
        found = SimulationRun.objects.filter(tenant_id=self.principal.tenant_id)
        statuses = ("", *SimulationRun.Status.values)
        status = query_choice(request, "status", "", statuses)
        kind = query_choice(request, "runType", "", ("", "manual", "scheduled", "ci"))
        scenario = query_text(request, "scenarioId")
        if status:
            found = found.filter(status=status)
        if kind:
            found = found.filter(run_type=kind)
        if scenario:
            found = found.filter(scenario_id=_uuid(scenario, "Scenario"))
        limit = query_int(request, "limit", 20, low=1, high=100)
        offset = query_int(request, "offset", 0, low=0, high=OFFSET_MAX)
        page = found.order_by("-created_at", "-pk")[offset : offset + limit]
        runs = [shown_run(run, self.principal.tenant_key) for run in page]
        return Response({"runs": runs, "total": found.count(), "limit": limit, "offset": offset})


class RunView(_SimulationView):
    """One run."""

    @extend_schema(operation_id="getSimulationRun", responses=_Document, tags=["Simulations"])
    def get(self, request: Request, run_id: str) -> Response:
        """The run with its result."""
        self.check_tenant()
        found = SimulationRun.objects.filter(
            tenant_id=self.principal.tenant_id, pk=_uuid(run_id, "Run")
        ).first()
        if found is None:
            raise NotFound("Run not found")
        return Response(shown_run(found, self.principal.tenant_key))


class BatchesView(_SimulationView):
    """Batches of runs."""

    @extend_schema(
        operation_id="runScenarioBatch",
        request=BatchInput,
        responses={202: _Document},
        tags=["Simulations"],
    )
    def post(self, request: Request) -> Response:
        """Queue a run of each scenario."""
        self.check_tenant(request.data)
        body = BatchInput(data=request.data)
        body.is_valid(raise_exception=True)
        data = body.validated_data
        batch = simulations.queue_batch(
            author=self.author(),
            name=data["name"],
            description=data["description"],
            scenario_ids=data["scenarioIds"],
        )
        wake_simulations()
        total = batch.runs.count()
        message = "Batch queued for execution"
        return Response({"batchId": batch.pk, "totalRuns": total, "message": message}, status=202)


class BatchView(_SimulationView):
    """One batch."""

    @extend_schema(operation_id="getSimulationBatch", responses=_Document, tags=["Simulations"])
    def get(self, request: Request, batch_id: str) -> Response:
        """The batch with how far it is."""
        self.check_tenant()
        batch = SimulationBatch.objects.filter(
            tenant_id=self.principal.tenant_id, pk=_uuid(batch_id, "Batch")
        ).first()
        if batch is None:
            raise NotFound("Batch not found")
        return Response(_shown_batch(batch))


def _shown_scenario(scenario: SimulationScenario) -> dict[str, Any]:
    return {
        "id": scenario.pk,
        "name": scenario.name,
        "description": scenario.description,
        "version": scenario.version,
        "tags": scenario.tags,
        "active": scenario.active,
        "createdAt": rfc3339(scenario.created_at),
        "updatedAt": rfc3339(scenario.updated_at),
    }


def shown_run(run: SimulationRun, tenant_key: str) -> dict[str, Any]:
    """The run as the wire shows it; amounts in results are exact texts."""
    taken = None
    if run.started_at is not None and run.completed_at is not None:
        taken = int((run.completed_at - run.started_at).total_seconds() * 1_000)
    return {
        "id": run.pk,
        "tenantId": tenant_key,
        "scenarioId": run.scenario_id,
        "name": run.name,
        "description": run.description,
        "runType": run.run_type,
        "scenarioSnapshot": run.snapshot,
        "status": run.status,
        "startedAt": run.started_at and rfc3339(run.started_at),
        "completedAt": run.completed_at and rfc3339(run.completed_at),
        "durationMs": taken,
        "result": run.result,
        "comparison": run.comparison,
        "passed": run.passed,
        "error": run.error or None,
        "retryCount": 0,
        "triggeredBy": run.triggered_by,
        "metadata": run.metadata,
        "createdAt": rfc3339(run.created_at),
    }


def _shown_batch(batch: SimulationBatch) -> dict[str, Any]:
    runs = list(batch.runs.order_by("pk"))
    counts = Counter(run.status for run in runs)
    done = counts["completed"] + counts["failed"] + counts["cancelled"]
    if done < len(runs):
        status = "running" if done or counts["running"] else "pending"
    elif counts["failed"]:
        status = "partial" if counts["completed"] else "failed"
    else:
        status = "completed"
    rate = Decimal(100 * counts["completed"]) / max(len(runs), 1)
    return {
        "id": batch.pk,
        "name": batch.name,
        "description": batch.description,
        "status": status,
        "createdAt": rfc3339(batch.created_at),
        "summary": {
            "totalRuns": len(runs),
            "completed": counts["completed"],
            "failed": counts["failed"],
            "pending": counts["pending"],
            "running": counts["running"],
            "successRate": rate.quantize(Decimal("0.01")),
        },
        "runs": [
            {
                "id": run.pk,
                "status": run.status,
                "scenarioId": run.scenario_id,
                "passed": run.passed,
                "error": run.error or None,
            }
            for run in runs
        ],
    }
