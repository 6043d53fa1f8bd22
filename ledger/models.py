"""What happened: metrics, events and the batches that wait to be folded.

An event is a fact: inserted once, unique for ever by (tenant, key), never changed or
deleted (a trigger refuses, and the application's role has no such right).
"""

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from stripemeter.tenancy.models import Tenant

#: Quantities in the ledger: at most 38 digits, 12 after the point; ingest takes fewer.
QUANTITY_BOUND = 10**26


if TYPE_CHECKING:
    _DecimalField = models.DecimalField[Any, Any]
else:
    _DecimalField = models.DecimalField


class ExactNumeric(_DecimalField):
    """PostgreSQL ``numeric`` without a scale: keeps what it is given, rounds nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_digits", 60)
        kwargs.setdefault("decimal_places", 20)
        super().__init__(*args, **kwargs)

    def db_type(self, connection: Any) -> str:
        """The column type."""
        return "numeric"

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        """Bind the Decimal as it is: the default would quantize it to ``decimal_places``."""
        return value if prepared else self.get_prep_value(value)


class Metric(models.Model):
    """What is counted, and how: one row per tenant and metric name.

    A metric that events name before anyone configured it is registered by ingest with
    ``configured=False`` and summed, so nothing is dropped and the operator sees it at once.
    """

    class Aggregation(models.TextChoices):
        """How the events of a period become one number."""

        SUM = "sum", "Sum"
        COUNT = "count", "Count"
        MAX = "max", "Maximum"
        MIN = "min", "Minimum"
        LAST = "last", "Last"
        UNIQUE = "unique", "Unique"
        AVERAGE = "average", "Average"

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="metrics")
    name = models.CharField(max_length=100, db_collation="C")
    aggregation = models.CharField(
        max_length=10, choices=Aggregation.choices, default=Aggregation.SUM
    )
    #: For unique: which field of an event is counted, ``resourceId`` or ``meta.<name>``.
    unique_field = models.CharField(max_length=110, default="resourceId")
    unit = models.CharField(max_length=40, default="unit")
    description = models.CharField(max_length=500, blank=True)
    #: Overrides the tenant's lateness window.
    lateness_window_hours = models.PositiveIntegerField(null=True, blank=True)
    configured = models.BooleanField(default=False)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "name"], name="metric_name_is_unique"),
            models.CheckConstraint(
                condition=Q(
                    aggregation__in=["sum", "count", "max", "min", "last", "unique", "average"]
                ),
                name="metric_aggregation_is_known",
            ),
            models.CheckConstraint(
                condition=Q(name__regex=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}$"),
                name="metric_name_is_plain",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Event(models.Model):
    """One usage fact. Columns are in the order that wastes no padding."""

    pk = models.CompositePrimaryKey("tenant_id", "key")
    tenant_id = models.BigIntegerField()
    #: Groups the events of one request and tenant; carries no order.
    batch_id = models.BigIntegerField()
    ts = models.DateTimeField()
    recorded_at = models.DateTimeField()
    #: 128 bits that identify the event within its tenant (`ledger.identity`).
    key = models.UUIDField()
    #: 128 bits over everything the event says: same key, other fingerprint is a conflict.
    fingerprint = models.UUIDField()
    metric_id = models.IntegerField()
    customer_ref = models.TextField(db_collation="C")
    resource_id = models.TextField(db_collation="C", null=True)
    quantity = ExactNumeric()
    source = models.TextField(db_collation="C", default="http")
    #: The idempotency key as the caller wrote it; null when it was derived.
    key_text = models.TextField(db_collation="C", null=True)
    meta = models.JSONField(null=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["batch_id"], name="event_by_batch"),
            models.Index(
                fields=["tenant_id", "metric_id", "customer_ref", "ts"], name="event_by_series"
            ),
            # Events come nearly in the order of both times, so a summary of each megabyte finds
            # any stretch of time; several intervals a summary bear with events that came late.
            BrinIndex(
                fields=["recorded_at", "ts"],
                name="event_by_time",
                opclasses=["timestamptz_minmax_ops", "timestamptz_minmax_multi_ops"],
                pages_per_range=128,
                autosummarize=True,
            ),
        ]
        constraints: ClassVar = [
            # 'NaN'::numeric is larger than every number, so the upper bound also keeps it out.
            models.CheckConstraint(
                condition=Q(quantity__gte=0, quantity__lt=QUANTITY_BOUND),
                name="event_quantity_is_finite_and_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(ts__gte="2000-01-01T00:00:00Z", ts__lt="9999-01-01T00:00:00Z"),
                name="event_ts_is_readable",
            ),
            models.CheckConstraint(
                condition=Q(source__in=["sdk", "http", "etl", "import", "system"]),
                name="event_source_is_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.key}"


class EventKey(models.Model):
    """That a key is used, for ever; only where the ledger is cut into months (`partitions`).

    As long as the ledger is one table, its primary key says so and this table is empty.
    """

    pk = models.CompositePrimaryKey("tenant_id", "key")
    tenant_id = models.BigIntegerField()
    key = models.UUIDField()
    fingerprint = models.UUIDField()
    batch_id = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.key}"


class PendingBatch(models.Model):
    """A stored batch that no fold has taken yet: the outbox between ledger and counters.

    A row lives from the ingest transaction to the fold transaction. Membership decides what
    is folded, never order, so a batch that commits late is simply folded later.
    """

    batch_id = models.BigIntegerField(primary_key=True)
    tenant_id = models.BigIntegerField()
    event_count = models.IntegerField()
    ts_min = models.DateTimeField()
    ts_max = models.DateTimeField()
    recorded_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "pending batches"

    def __str__(self) -> str:
        return f"batch {self.batch_id}"


class Seal(models.Model):
    """A digest of every event of a tenant whose batch lies in one range, chained to the last.

    ``hash`` covers the previous hash, the range, the count and the digest, so no event
    can be altered, removed or slipped in below the newest seal without breaking the chain.
    Append-only, like events.
    """

    pk = models.CompositePrimaryKey("tenant_id", "sequence")
    tenant_id = models.BigIntegerField()
    #: 1, 2, 3, ... within the tenant.
    sequence = models.BigIntegerField()
    #: Batches above ``after_batch`` up to and with ``last_batch``.
    after_batch = models.BigIntegerField()
    last_batch = models.BigIntegerField()
    event_count = models.BigIntegerField()
    digest = models.BinaryField()
    previous_hash = models.BinaryField()
    hash = models.BinaryField()
    sealed_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(after_batch__lt=models.F("last_batch"), event_count__gt=0),
                name="seal_covers_something",
            ),
            models.UniqueConstraint(
                fields=["tenant_id", "after_batch"], name="seal_ranges_do_not_overlap"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["-last_batch"], name="seal_by_batch")]

    def __str__(self) -> str:
        return f"seal {self.sequence} of tenant {self.tenant_id}"


class EventConflict(models.Model):
    """An event that came again under a key already used for other content.

    Stored for the operator: the first fact stands, the second was not counted.
    """

    tenant = models.ForeignKey(Tenant, models.PROTECT)
    key = models.UUIDField()
    recorded_at = models.DateTimeField()
    #: The refused event as received.
    refused = models.JSONField()
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.CharField(max_length=200, blank=True)
    note = models.CharField(max_length=500, blank=True)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["tenant", "-recorded_at"], name="conflict_inbox")]

    def __str__(self) -> str:
        return f"conflict on {self.key}"


class Operation(models.Model):
    """Work too long for one request: a backfill or a large replay.

    Everything needed to go on stands here and in its chunks, so a worker that dies loses
    nothing: another one claims the operation when the lease has run out. ``fence`` grows with each
    claim; a worker whose fence is old may not write any more.
    """

    class Kind(models.TextChoices):
        """What is done."""

        BACKFILL = "backfill", "Backfill"
        REPLAY = "replay", "Replay"

    class Status(models.TextChoices):
        """The life of an operation; cancelled and failed ones can be resumed."""

        PENDING = "pending", "Waiting"
        PROCESSING = "processing", "Running"
        COMPLETED = "completed", "Completed"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="operations")
    id = models.UUIDField(primary_key=True)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PENDING)
    #: What was asked for.
    request = models.JSONField()
    #: What has come of it so far.
    result = models.JSONField(default=dict)
    #: Steps in all and steps done: chunks of a backfill, months of a replay.
    steps_total = models.IntegerField(default=0)
    steps_done = models.IntegerField(default=0)
    error = models.CharField(max_length=1000, blank=True)
    actor = models.CharField(max_length=200)
    cancel_requested = models.BooleanField(default=False)
    fence = models.IntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(kind__in=["backfill", "replay"]), name="operation_kind_is_known"
            ),
            models.CheckConstraint(
                condition=Q(
                    status__in=["pending", "processing", "completed", "failed", "cancelled"]
                ),
                name="operation_status_is_known",
            ),
            # Two overwrites of one tenant's counters at once would only undo each other's work.
            models.UniqueConstraint(
                fields=["tenant"],
                condition=Q(kind="replay", status__in=["pending", "processing"]),
                name="operation_one_replay_at_a_time",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "kind", "-created_at"], name="operation_by_tenant"),
            models.Index(
                fields=["kind", "created_at"],
                condition=Q(status__in=["pending", "processing"]),
                name="operation_to_do",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class BackfillChunk(models.Model):
    """At most 5,000 rows of a backfill, as uploaded; stored in one transaction with its counts."""

    operation = models.ForeignKey(Operation, models.PROTECT, related_name="chunks")
    number = models.IntegerField()
    #: Strict JSON text of ``[line, row]`` pairs, so that numbers keep every digit; a row is an
    #: event object, or text that says why the line is none.
    rows = models.TextField()
    row_count = models.IntegerField()
    done = models.BooleanField(default=False)
    accepted = models.IntegerField(default=0)
    duplicates = models.IntegerField(default=0)
    failed = models.IntegerField(default=0)
    #: ``[line, code, reason]`` of each row that was not stored.
    errors = models.JSONField(default=list)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["operation", "number"], name="chunk_number_is_unique"),
        ]

    def __str__(self) -> str:
        return f"chunk {self.number} of {self.operation_id}"
