"""Plans to repair findings: proposed, approved by a second person, applied, verified."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from ledger.models import ExactNumeric
from reconciliation.models.findings import Finding
from stripemeter.tenancy.models import Tenant


class RepairPlan(models.Model):
    """What shall be done about some findings, with its effect known beforehand."""

    class State(models.TextChoices):
        """The life of a plan."""

        PROPOSED = "proposed", "Waiting for a second person"
        APPROVED = "approved", "Approved"
        APPLYING = "applying", "Being applied"
        APPLIED = "applied", "Applied, not read back yet"
        VERIFIED = "verified", "Verified by reading back"
        FAILED = "failed", "Read back and still different"
        UNDONE = "undone", "Undone"
        REJECTED = "rejected", "Rejected"

    id = models.UUIDField(primary_key=True)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="repair_plans")
    state = models.CharField(max_length=8, choices=State.choices, default=State.PROPOSED)
    note = models.CharField(max_length=1000, blank=True)
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    decided_by = models.CharField(max_length=200, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    applied_by = models.CharField(max_length=200, blank=True)
    applied_at = models.DateTimeField(null=True, blank=True)
    verified_at = models.DateTimeField(null=True, blank=True)
    undone_by = models.CharField(max_length=200, blank=True)
    undone_at = models.DateTimeField(null=True, blank=True)
    #: Findings that were asked for and are not repaired by machine, with the reason.
    refusals = models.JSONField(default=list)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(
                    state__in=[
                        "proposed",
                        "approved",
                        "applying",
                        "applied",
                        "verified",
                        "failed",
                        "undone",
                        "rejected",
                    ]
                ),
                name="repair_plan_state_is_known",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "-created_at"], name="repair_plan_by_tenant"),
        ]

    def __str__(self) -> str:
        return f"plan {self.id}"


class RepairStep(models.Model):
    """One act of a plan; applying it twice is applying it once."""

    class Kind(models.TextChoices):
        """What is done."""

        RECOMPUTE = "recompute", "Rebuild the counter from the ledger"
        RELEASE = "release", "Release the cursor, so that the delta is pushed"
        REOPEN = "reopen", "Mark lost pushes as not at Stripe, so that their value is sent again"
        ADOPT = "adopt", "Book what Stripe has too much, so that a negative increment follows"
        MOVE = "move", "Take usage from the former customer and give it to the linked one"

    class State(models.TextChoices):
        """What became of it."""

        PENDING = "pending", "Pending"
        APPLIED = "applied", "Applied"
        VERIFIED = "verified", "Verified"
        FAILED = "failed", "Failed"
        UNDONE = "undone", "Undone"

    plan = models.ForeignKey(RepairPlan, models.CASCADE, related_name="steps")
    position = models.PositiveIntegerField()
    finding = models.ForeignKey(Finding, models.PROTECT, related_name="repair_steps")
    kind = models.CharField(max_length=9, choices=Kind.choices)
    #: Pushes and amounts the step works on, fixed when the plan is made.
    parameters = models.JSONField(default=dict)
    #: What Stripe's sum changes by, in its units and in money.
    effect_units = ExactNumeric()
    effect_minor = ExactNumeric(null=True)
    currency = models.CharField(max_length=3, blank=True)
    state = models.CharField(max_length=8, choices=State.choices, default=State.PENDING)
    outcome = models.JSONField(default=dict)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["plan", "position"], name="repair_step_position"),
            models.CheckConstraint(
                condition=Q(kind__in=["recompute", "release", "reopen", "adopt", "move"]),
                name="repair_step_kind_is_known",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["pending", "applied", "verified", "failed", "undone"]),
                name="repair_step_state_is_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.effect_units}"
