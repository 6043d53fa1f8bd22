"""What-if runs: past usage rated at other prices. They bill nothing."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from stripemeter.tenancy.models import Tenant


class WhatIfRun(models.Model):
    """One question: what would these periods have cost at these prices?"""

    class Status(models.TextChoices):
        """The life of a run."""

        PENDING = "pending", "Waiting"
        RUNNING = "running", "Running"
        COMPLETED = "completed", "Completed"
        FAILED = "failed", "Failed"

    id = models.UUIDField(primary_key=True)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="what_if_runs")
    name = models.CharField(max_length=255, blank=True)
    #: What was asked, as sent.
    document = models.JSONField()
    since = models.DateTimeField()
    until = models.DateTimeField()
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.PENDING)
    #: Customers in all and rated so far.
    steps_total = models.IntegerField(default=0)
    steps_done = models.IntegerField(default=0)
    #: Everything but the table per customer.
    result = models.JSONField(null=True)
    error = models.CharField(max_length=1_000, blank=True)
    #: A worker that took it has until then; later another may begin anew.
    lease_until = models.DateTimeField(null=True)
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    completed_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=["pending", "running", "completed", "failed"]),
                name="what_if_status_is_known",
            ),
            models.CheckConstraint(
                condition=Q(until__gt=models.F("since")), name="what_if_range_is_not_empty"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "-created_at"], name="what_if_list"),
            models.Index(
                fields=["created_at"],
                condition=Q(status__in=["pending", "running"]),
                name="what_if_to_do",
            ),
        ]

    def __str__(self) -> str:
        return self.name or str(self.pk)


class WhatIfCustomer(models.Model):
    """One customer of a run over all its periods, in minor units."""

    run = models.ForeignKey(WhatIfRun, models.CASCADE, related_name="customers")
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="+")
    #: Largest increase first.
    rank = models.IntegerField()
    customer_ref = models.TextField(db_collation="C")
    periods = models.IntegerField()
    before_minor = models.BigIntegerField()
    after_minor = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "rank"], name="what_if_rank_is_unique"),
        ]

    def __str__(self) -> str:
        return self.customer_ref
