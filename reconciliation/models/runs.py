"""Runs, their lines, and what they may read of Stripe."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from ledger.models import ExactNumeric
from stripemeter.tenancy.models import Tenant

ACTIVE = ("queued", "running")


class Run(models.Model):
    """One comparison of a tenant's cursors; its id is the ``jobId`` on the wire."""

    class Status(models.TextChoices):
        """The life of a run."""

        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"

    id = models.UUIDField(primary_key=True)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="reconciliation_runs")
    status = models.CharField(max_length=7, choices=Status.choices, default=Status.QUEUED)
    requested_by = models.CharField(max_length=200)
    requested_at = models.DateTimeField()
    #: Only these: a metric, a customer, periods that overlap [period_from, period_to).
    metric_id = models.IntegerField(null=True, blank=True)
    customer_ref = models.TextField(db_collation="C", null=True, blank=True)
    period_from = models.DateTimeField(null=True, blank=True)
    period_to = models.DateTimeField(null=True, blank=True)
    #: A worker that dies is replaced when its lease ends; the attempt fences it off.
    attempt = models.PositiveIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    cursors = models.PositiveIntegerField(default=0)
    parity = models.PositiveIntegerField(default=0)
    settling = models.PositiveIntegerField(default=0)
    drifting = models.PositiveIntegerField(default=0)
    #: Left out because the read budget went to riskier cursors.
    skipped = models.PositiveIntegerField(default=0)
    stripe_reads = models.PositiveIntegerField(default=0)
    error = models.CharField(max_length=500, blank=True)

    class Meta:
        constraints: ClassVar = [
            # Two runs at once would report twice: the second request gets the first one's id.
            models.UniqueConstraint(
                fields=["tenant"], condition=Q(status__in=ACTIVE), name="run_one_active_per_tenant"
            ),
            models.CheckConstraint(
                condition=Q(status__in=["queued", "running", "done", "failed"]),
                name="run_status_is_known",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "-requested_at"], name="run_by_tenant"),
        ]

    def __str__(self) -> str:
        return f"run of {self.requested_at:%Y-%m-%d %H:%M}"


class ReportLine(models.Model):
    """One cursor in one run: the five numbers and the ids they can be recomputed from.

    ``ledger``, ``counter`` and ``carry`` are units of the metric, the others are Stripe's
    units (``unit_factor`` of the former make one of the latter).
    """

    class Status(models.TextChoices):
        """The verdict."""

        PARITY = "parity", "Parity"
        SETTLING = "settling", "In flight or settling"
        DRIFT = "drift", "Difference"
        UNREAD = "unread", "Stripe could not be read"

    pk = models.CompositePrimaryKey(
        "tenant_id", "run_id", "mapping_id", "customer_ref", "period_start", "mode"
    )
    tenant_id = models.BigIntegerField()
    run_id = models.UUIDField()
    mapping_id = models.UUIDField()
    customer_ref = models.TextField(db_collation="C")
    period_start = models.DateTimeField()
    mode = models.CharField(max_length=4)
    #: Names the line on the wire.
    id = models.UUIDField()
    period_end = models.DateTimeField()
    metric_id = models.IntegerField()
    checked_at = models.DateTimeField()
    unit_factor = ExactNumeric(default=1)
    ledger = ExactNumeric()
    counter = ExactNumeric()
    carry = ExactNumeric(default=0)
    wanted = ExactNumeric()
    acknowledged = ExactNumeric()
    open = ExactNumeric(default=0)
    #: Null: Stripe was not read (no customer, no meter, no answer).
    stripe = ExactNumeric(null=True)
    invoiced = ExactNumeric(null=True)
    status = models.CharField(max_length=8, choices=Status.choices)
    #: ``[{"cause", "units"}]``; the findings hold the evidence.
    causes = models.JSONField(default=list)
    #: Ids: counter revision, event count, adjustments, push sequences, Stripe's answer.
    basis = models.JSONField(default=dict)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=["parity", "settling", "drift", "unread"]),
                name="report_line_status_is_known",
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=[
                    "tenant_id",
                    "period_start",
                    "mapping_id",
                    "customer_ref",
                    "mode",
                    "-checked_at",
                ],
                name="report_line_latest",
            ),
            models.Index(
                fields=["tenant_id", "period_start", "mapping_id", "customer_ref", "mode"],
                condition=~Q(status="parity"),
                name="report_line_differing",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.customer_ref} {self.period_start:%Y-%m-%d} {self.status}"


class ReadBudget(models.Model):
    """How many reads of Stripe one account had in one calendar month."""

    account = models.CharField(max_length=70, db_collation="C")
    mode = models.CharField(max_length=4)
    month = models.DateField()
    reads = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["account", "mode", "month"], name="read_budget_one_per_month"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.account} {self.mode} {self.month:%Y-%m}: {self.reads}"
