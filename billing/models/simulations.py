"""Scenarios of the invoice simulator, their runs and batches. They bill nothing."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from stripemeter.tenancy.models import Tenant


class SimulationScenario(models.Model):
    """A scenario document as sent; deleting one only takes it off the list."""

    id = models.UUIDField(primary_key=True)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="scenarios")
    name = models.CharField(max_length=255)
    description = models.CharField(max_length=2_000, blank=True)
    version = models.CharField(max_length=50, default="1")
    tags = ArrayField(models.CharField(max_length=100), default=list)
    #: The whole document: name, model, inputs, expected, tolerances.
    document = models.JSONField()
    active = models.BooleanField(default=True)
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["tenant", "active", "-created_at"], name="scenario_list"),
        ]

    def __str__(self) -> str:
        return self.name


class SimulationBatch(models.Model):
    """Several scenarios run together; its state follows from its runs."""

    id = models.UUIDField(primary_key=True)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="simulation_batches")
    name = models.CharField(max_length=255)
    description = models.CharField(max_length=2_000, blank=True)
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "simulation batches"

    def __str__(self) -> str:
        return self.name


class SimulationRun(models.Model):
    """One computation of one scenario, with the scenario as it was then."""

    class Status(models.TextChoices):
        """The life of a run."""

        PENDING = "pending", "Pending"
        RUNNING = "running", "Running"
        COMPLETED = "completed", "Completed"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    id = models.UUIDField(primary_key=True)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="simulation_runs")
    scenario = models.ForeignKey(SimulationScenario, models.PROTECT, null=True)
    batch = models.ForeignKey(SimulationBatch, models.PROTECT, null=True, related_name="runs")
    name = models.CharField(max_length=255)
    description = models.CharField(max_length=2_000, blank=True)
    run_type = models.CharField(max_length=10, default="manual")
    snapshot = models.JSONField()
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.PENDING)
    started_at = models.DateTimeField(null=True)
    completed_at = models.DateTimeField(null=True)
    result = models.JSONField(null=True)
    comparison = models.JSONField(null=True)
    #: Null when the scenario expects nothing.
    passed = models.BooleanField(null=True)
    error = models.CharField(max_length=1_000, blank=True)
    triggered_by = models.CharField(max_length=200)
    metadata = models.JSONField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=["pending", "running", "completed", "failed", "cancelled"]),
                name="simulation_run_status_is_known",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "-created_at"], name="simulation_run_list"),
            models.Index(
                fields=["created_at"],
                condition=Q(status="pending"),
                name="simulation_run_queue",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.status})"
