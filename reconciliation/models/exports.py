"""Exports as background operations. Their files live in PostgreSQL, so any web process
can serve what any worker wrote; they are deleted when they expire."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from stripemeter.tenancy.models import Tenant


class Export(models.Model):
    """One export of one period, written from one snapshot."""

    class Status(models.TextChoices):
        """The life of an export."""

        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        EXPIRED = "expired", "Expired"

    id = models.UUIDField(primary_key=True)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="exports")
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    format = models.CharField(max_length=7)
    status = models.CharField(max_length=7, choices=Status.choices, default=Status.QUEUED)
    requested_by = models.CharField(max_length=200)
    requested_at = models.DateTimeField()
    attempt = models.PositiveIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    rows_expected = models.PositiveBigIntegerField(default=0)
    rows_written = models.PositiveBigIntegerField(default=0)
    manifest = models.JSONField(null=True, blank=True)
    error = models.CharField(max_length=500, blank=True)
    expires_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(format__in=["csv", "xlsx", "parquet", "json"]),
                name="export_format_is_known",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["queued", "running", "done", "failed", "expired"]),
                name="export_status_is_known",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "-requested_at"], name="export_by_tenant"),
        ]

    def __str__(self) -> str:
        return f"{self.format} of {self.period_start:%Y-%m}"


class ExportChunk(models.Model):
    """A piece of a file of an export."""

    pk = models.CompositePrimaryKey("tenant_id", "export_id", "file", "position")
    tenant_id = models.BigIntegerField()
    export_id = models.UUIDField()
    file = models.CharField(max_length=80)
    position = models.PositiveIntegerField()
    data = models.BinaryField()

    def __str__(self) -> str:
        return f"{self.file} #{self.position}"
