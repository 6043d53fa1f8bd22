"""``/v1/reconciliation/repair-plans``: from a dry run to a verified repair, and back."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from reconciliation.facts import Cause
from reconciliation.models import RepairPlan
from reconciliation.selectors import repairs as selectors
from reconciliation.services import repairs, verifying
from reconciliation.tasks import wake
from stripemeter.lib import clock, cursors
from stripemeter.lib.drf import (
    ExactDecimalField,
    FlagField,
    InstantField,
    StrictSerializer,
    TextField,
    query_choice,
    query_int,
    query_text,
)
from stripemeter.lib.errors import NotFound, invalid
from stripemeter.tenancy.api_base import TenantView

PAGE_DEFAULT, PAGE_MAX = 20, 100
_STATES = tuple(RepairPlan.State.values)
_CAUSES = tuple(str(each) for each in Cause)


class PlanInput(StrictSerializer):
    """Findings by id, or all open ones of a cause."""

    tenantId = TextField(required=False)
    findingIds = serializers.ListField(
        child=serializers.UUIDField(), required=False, max_length=repairs.FINDINGS_MAX
    )
    cause = serializers.ChoiceField(choices=_CAUSES, required=False)
    note = TextField(max_length=1_000, required=False, default="", allow_blank=True)
    dryRun = FlagField(required=False, default=False)


class StepOutput(serializers.Serializer[Any]):
    """One step; ``effectUnits`` is what Stripe's sum changes by."""

    position = serializers.IntegerField()
    kind = serializers.CharField()
    description = serializers.CharField(source="get_kind_display")
    findingId = serializers.UUIDField(source="finding_id")
    cause = serializers.CharField(source="finding.cause")
    customerRef = serializers.CharField(source="finding.customer_ref")
    effectUnits = ExactDecimalField(source="effect_units")
    effectMinor = ExactDecimalField(source="effect_minor", allow_null=True)
    currency = serializers.CharField()
    state = serializers.CharField()
    outcome = serializers.JSONField()


class PlanOutput(serializers.Serializer[Any]):
    """A plan with its steps."""

    id = serializers.UUIDField()
    state = serializers.CharField()
    note = serializers.CharField()
    createdBy = serializers.CharField(source="created_by")
    createdAt = InstantField(source="created_at")
    decidedBy = serializers.CharField(source="decided_by")
    decidedAt = InstantField(source="decided_at", allow_null=True)
    appliedBy = serializers.CharField(source="applied_by")
    appliedAt = InstantField(source="applied_at", allow_null=True)
    verifiedAt = InstantField(source="verified_at", allow_null=True)
    undoneBy = serializers.CharField(source="undone_by")
    undoneAt = InstantField(source="undone_at", allow_null=True)
    refusals = serializers.JSONField()
    steps = StepOutput(many=True, source="steps.all")


class PlanListOutput(serializers.Serializer[Any]):
    """A page, newest first."""

    plans = PlanOutput(many=True)
    nextCursor = serializers.CharField(allow_null=True)


class DryRunOutput(serializers.Serializer[Any]):
    """What a plan would do; nothing was stored."""

    dryRun = serializers.BooleanField()
    steps = serializers.ListField(child=serializers.DictField())
    refusals = serializers.ListField(child=serializers.DictField())
    effectUnits = ExactDecimalField()


class PlansView(TenantView):
    """``GET`` and ``POST /v1/reconciliation/repair-plans``."""

    scope_area = "reconciliation"

    @extend_schema(
        operation_id="listRepairPlans",
        parameters=[
            OpenApiParameter("state", str, enum=list(_STATES)),
            OpenApiParameter("limit", int),
            OpenApiParameter("cursor", str),
        ],
        responses=PlanListOutput,
        tags=["Reconciliation"],
    )
    def get(self, request: Request) -> Response:
        """One page of plans."""
        self.check_tenant()
        limit = query_int(request, "limit", PAGE_DEFAULT, low=1, high=PAGE_MAX)
        state = query_choice(request, "state", "", ("", *_STATES))
        key, bound = self.principal.tenant_key, {"state": state}
        raw, before = query_text(request, "cursor"), None
        if raw:
            position = cursors.decode(raw, tenant_key=key, listing="plans", filters=bound)
            before = UUID(str(position))
        found = selectors.plans(
            tenant_id=self.principal.tenant_id, limit=limit, before=before, state=state
        )
        following = None
        if len(found) == limit:
            following = cursors.encode(
                str(found[-1].pk), tenant_key=key, listing="plans", filters=bound
            )
        return Response(PlanListOutput({"plans": found, "nextCursor": following}).data)

    @extend_schema(
        operation_id="proposeRepairPlan",
        request=PlanInput,
        responses={200: DryRunOutput, 201: PlanOutput},
        tags=["Reconciliation"],
    )
    def post(self, request: Request) -> Response:
        """Propose a plan; with ``dryRun`` only show what it would do."""
        self.check_tenant(request.data)
        given = PlanInput(data=request.data)
        given.is_valid(raise_exception=True)
        fields = given.validated_data
        if ("findingIds" in fields) == ("cause" in fields):
            raise invalid("findingIds", "give findingIds or cause", code="required")
        tenant_id = self.principal.tenant_id
        ids = fields.get("findingIds") or selectors.open_finding_ids(
            tenant_id=tenant_id, cause=fields["cause"], limit=repairs.FINDINGS_MAX
        )
        if fields["dryRun"]:
            return Response(_dry_run(repairs.draft(tenant_id=tenant_id, finding_ids=ids)))
        plan = repairs.propose(
            tenant_id=tenant_id,
            finding_ids=ids,
            note=fields["note"],
            actor=self.principal.actor,
            now=clock.now(),
        )
        return Response(PlanOutput(plan).data, status=201)


def _dry_run(found: repairs.Proposal) -> Any:
    steps = [
        {
            "kind": str(each.kind),
            "findingId": each.finding.pk,
            "cause": each.finding.cause,
            "customerRef": each.finding.customer_ref,
            "effectUnits": each.effect_units,
            "effectMinor": each.finding.amount_minor if each.effect_units else None,
            "currency": each.finding.currency,
        }
        for each in found.steps
    ]
    return {
        "dryRun": True,
        "steps": steps,
        "refusals": found.refusals,
        "effectUnits": sum((each.effect_units for each in found.steps), start=0),
    }


class PlanView(TenantView):
    """``GET /v1/reconciliation/repair-plans/{id}``."""

    scope_area = "reconciliation"

    @extend_schema(operation_id="getRepairPlan", responses=PlanOutput, tags=["Reconciliation"])
    def get(self, request: Request, plan_id: UUID) -> Response:
        """One plan."""
        self.check_tenant()
        plan = selectors.plan(tenant_id=self.principal.tenant_id, plan_id=plan_id)
        if plan is None:
            raise NotFound("No such repair plan")
        return Response(PlanOutput(plan).data)


class _ActView(TenantView):
    """One act on a plan."""

    scope_area = "reconciliation"

    def _answer(self, plan_id: UUID) -> Response:
        plan = selectors.plan(tenant_id=self.principal.tenant_id, plan_id=plan_id)
        return Response(PlanOutput(plan).data)


class ApproveView(_ActView):
    """``POST …/approve``: by someone else than who proposed it."""

    @extend_schema(
        operation_id="approveRepairPlan", request=None, responses=PlanOutput,
        tags=["Reconciliation"],
    )  # fmt: skip
    def post(self, request: Request, plan_id: UUID) -> Response:
        """Approve the plan."""
        self.check_tenant(request.data)
        self._decide(plan_id, approve=True)
        return self._answer(plan_id)

    def _decide(self, plan_id: UUID, *, approve: bool) -> None:
        repairs.decide(
            tenant_id=self.principal.tenant_id,
            plan_id=plan_id,
            approve=approve,
            actor=self.principal.actor,
            now=clock.now(),
        )


class RejectView(ApproveView):
    """``POST …/reject``."""

    @extend_schema(
        operation_id="rejectRepairPlan", request=None, responses=PlanOutput,
        tags=["Reconciliation"],
    )  # fmt: skip
    def post(self, request: Request, plan_id: UUID) -> Response:
        """Reject the plan."""
        self.check_tenant(request.data)
        self._decide(plan_id, approve=False)
        return self._answer(plan_id)


class ApplyView(_ActView):
    """``POST …/apply``: safe to repeat."""

    @extend_schema(
        operation_id="applyRepairPlan", request=None, responses=PlanOutput,
        tags=["Reconciliation"],
    )  # fmt: skip
    def post(self, request: Request, plan_id: UUID) -> Response:
        """Carry out the approved plan; pushes follow, then it is read back."""
        self.check_tenant(request.data)
        repairs.apply(
            tenant_id=self.principal.tenant_id,
            plan_id=plan_id,
            actor=self.principal.actor,
            now=clock.now(),
        )
        wake()
        return self._answer(plan_id)


class VerifyView(_ActView):
    """``POST …/verify``: read back now."""

    @extend_schema(
        operation_id="verifyRepairPlan", request=None, responses=PlanOutput,
        tags=["Reconciliation"],
    )  # fmt: skip
    def post(self, request: Request, plan_id: UUID) -> Response:
        """Read the plan's cursors back from Stripe."""
        self.check_tenant(request.data)
        if selectors.plan(tenant_id=self.principal.tenant_id, plan_id=plan_id) is None:
            raise NotFound("No such repair plan")
        verifying.verify(tenant_id=self.principal.tenant_id, plan_id=plan_id, clock=clock.now)
        return self._answer(plan_id)


class UndoView(_ActView):
    """``POST …/undo``."""

    @extend_schema(
        operation_id="undoRepairPlan", request=None, responses=PlanOutput,
        tags=["Reconciliation"],
    )  # fmt: skip
    def post(self, request: Request, plan_id: UUID) -> Response:
        """Take the plan back: cancel within 24 hours, counter after."""
        self.check_tenant(request.data)
        repairs.undo(
            tenant_id=self.principal.tenant_id,
            plan_id=plan_id,
            actor=self.principal.actor,
            now=clock.now(),
        )
        wake()
        return self._answer(plan_id)
