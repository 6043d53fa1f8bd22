"""Differences with a name, from the first run that saw them to the last."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from ledger.models import ExactNumeric
from reconciliation.facts import Cause
from stripemeter.tenancy.models import Tenant


class Finding(models.Model):
    """One cause of drift on one cursor.

    Active while ``closed_at`` is null. A person may explain or accept it; a run closes it
    when it is no longer seen; a verified plan repairs it.
    """

    class State(models.TextChoices):
        """What became of it."""

        OPEN = "open", "Open"
        EXPLAINED = "explained", "Explained"
        REPAIRED = "repaired", "Repaired"
        ACCEPTED = "accepted", "Accepted"

    class Severity(models.TextChoices):
        """How loud: the tenant's epsilon parts warning from critical, it hides nothing."""

        INFO = "info", "Info"
        WARNING = "warning", "Warning"
        CRITICAL = "critical", "Critical"

    id = models.UUIDField(primary_key=True)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="findings")
    mapping_id = models.UUIDField()
    metric_id = models.IntegerField()
    customer_ref = models.TextField(db_collation="C")
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    mode = models.CharField(max_length=4)
    cause = models.CharField(max_length=20, choices=[(each, each) for each in Cause])
    state = models.CharField(max_length=9, choices=State.choices, default=State.OPEN)
    severity = models.CharField(max_length=8, choices=Severity.choices)
    #: Drift in Stripe's units, signed: ours minus Stripe's; and what it is worth.
    units = ExactNumeric()
    amount_minor = ExactNumeric(null=True)
    currency = models.CharField(max_length=3, blank=True)
    days = ArrayField(models.DateField(), default=list)
    push_ids = ArrayField(models.UUIDField(), default=list)
    evidence = models.JSONField(default=dict)
    owner = models.CharField(max_length=200, blank=True)
    note = models.CharField(max_length=1000, blank=True)
    first_run_id = models.UUIDField()
    last_run_id = models.UUIDField()
    opened_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.CharField(max_length=200, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "mapping_id", "customer_ref", "period_start", "mode", "cause"],
                condition=Q(closed_at__isnull=True),
                name="finding_one_active_per_cause",
            ),
            models.CheckConstraint(
                condition=Q(cause__in=[str(each) for each in Cause]), name="finding_cause_is_known"
            ),
            models.CheckConstraint(
                condition=Q(state__in=["open", "explained", "repaired", "accepted"]),
                name="finding_state_is_known",
            ),
            models.CheckConstraint(
                condition=Q(severity__in=["info", "warning", "critical"]),
                name="finding_severity_is_known",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "state", "-opened_at"], name="finding_inbox"),
            models.Index(fields=["tenant", "period_start"], name="finding_by_period"),
        ]

    def __str__(self) -> str:
        return f"{self.cause} {self.customer_ref}"
