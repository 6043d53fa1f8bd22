"""What it adds up to: counters, daily rollups, periods, adjustments.

Counters and rollups are projections of the ledger: they can be thrown away and rebuilt
(`recompute == fold`, bit for bit). Adjustments are facts: signed entries, never edited.
"""

from typing import ClassVar

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import DateTimeRangeField, RangeOperators
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from ledger.models import ExactNumeric, Metric
from stripemeter.tenancy.models import Tenant


class Aggregates(models.Model):
    """What is kept of a slice of events.

    sum, count, max and min are kept for every metric; ``last`` only where the metric's
    aggregation is last: the quantity of the greatest (ts, batch, key), so that folding in any
    order ends in the same row.
    """

    sum = ExactNumeric(default=0)
    event_count = models.BigIntegerField(default=0)
    max = ExactNumeric(null=True)
    min = ExactNumeric(null=True)
    last = ExactNumeric(null=True)
    last_ts = models.DateTimeField(null=True)
    last_batch_id = models.BigIntegerField(null=True)
    last_key = models.UUIDField(null=True)

    class Meta:
        abstract = True


class Counter(Aggregates):
    """The folded events of one (tenant, metric, customer, period)."""

    pk = models.CompositePrimaryKey("tenant_id", "metric_id", "customer_ref", "period_start")
    tenant_id = models.BigIntegerField()
    metric_id = models.IntegerField()
    customer_ref = models.TextField(db_collation="C")
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    #: The event time seen up to; never moves back.
    watermark = models.DateTimeField(null=True)
    #: Distinct members; only for metrics that count uniques.
    unique_count = models.BigIntegerField(default=0)
    #: Approved adjustments of this counter, kept beside the fold: total = folded + adjusted.
    adjusted = ExactNumeric(default=0)
    #: Grows by one at each change: consumers compare it with the revision they have seen.
    revision = models.BigIntegerField(default=0)
    #: Ledger time of the newest folded event.
    folded_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(period_end__gt=models.F("period_start")),
                name="counter_period_is_not_empty",
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["tenant_id", "customer_ref", "period_start"], name="counter_by_customer"
            ),
            models.Index(fields=["tenant_id", "period_end"], name="counter_by_period_end"),
        ]

    def __str__(self) -> str:
        return f"{self.customer_ref} {self.period_start:%Y-%m-%d}"


class DailyRollup(Aggregates):
    """The folded events of one counter on one UTC day; the days sum to the counter."""

    pk = models.CompositePrimaryKey("tenant_id", "metric_id", "customer_ref", "period_start", "day")
    tenant_id = models.BigIntegerField()
    metric_id = models.IntegerField()
    customer_ref = models.TextField(db_collation="C")
    period_start = models.DateTimeField()
    day = models.DateField()

    def __str__(self) -> str:
        return f"{self.customer_ref} {self.day}"


class UniqueMember(models.Model):
    """One distinct member of a counter that counts uniques, and the first day it was seen."""

    pk = models.CompositePrimaryKey(
        "tenant_id", "metric_id", "customer_ref", "period_start", "member"
    )
    tenant_id = models.BigIntegerField()
    metric_id = models.IntegerField()
    customer_ref = models.TextField(db_collation="C")
    period_start = models.DateTimeField()
    #: 128-bit digest of the member's text.
    member = models.UUIDField()

    def __str__(self) -> str:
        return f"{self.member}"


class BillingCalendar(models.Model):
    """How the time of a tenant, or of one of its customers, is cut into billing periods.

    ``customer_ref`` null is the tenant's default. Without any row: UTC calendar months.
    """

    class Interval(models.TextChoices):
        """Units of Stripe's recurring prices."""

        DAY = "day", "Day"
        WEEK = "week", "Week"
        MONTH = "month", "Month"
        YEAR = "year", "Year"

    class Source(models.TextChoices):
        """Where the calendar comes from."""

        OPERATOR = "operator", "Set by an operator"
        STRIPE = "stripe", "Taken from a Stripe subscription"

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="calendars")
    customer_ref = models.TextField(db_collation="C", null=True, blank=True)
    anchor = models.DateTimeField()
    interval = models.CharField(max_length=5, choices=Interval.choices, default=Interval.MONTH)
    interval_count = models.PositiveIntegerField(default=1)
    zone = models.CharField(max_length=64, default="UTC")
    source = models.CharField(max_length=10, choices=Source.choices, default=Source.OPERATOR)
    stripe_subscription_item = models.CharField(max_length=255, blank=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "customer_ref"],
                name="calendar_one_per_customer",
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                condition=Q(interval_count__gte=1, interval_count__lte=366),
                name="calendar_interval_count_in_range",
            ),
            models.CheckConstraint(
                condition=Q(interval__in=["day", "week", "month", "year"]),
                name="calendar_interval_is_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.interval_count} {self.interval} from {self.anchor:%Y-%m-%d}"


class PeriodState(models.TextChoices):
    """A period's life: its invoice decides."""

    OPEN = "open", "Open"
    CLOSING = "closing", "Closing"
    FROZEN = "frozen", "Frozen"
    SEALED = "sealed", "Sealed"


class BillingPeriod(models.Model):
    """A stretch of time of one customer that a price bills over; half-open, in UTC.

    A row exists where a calendar other than the UTC month is in force, and for any period
    that has left the state ``open``. ``customer_ref`` empty is the tenant's default.
    """

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="periods")
    customer_ref = models.TextField(db_collation="C", blank=True, default="")
    span = DateTimeRangeField()
    state = models.CharField(max_length=8, choices=PeriodState.choices, default=PeriodState.OPEN)
    #: When the invoice of the period finalises (grace included); null while unknown.
    finalizes_at = models.DateTimeField(null=True, blank=True)
    frozen_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            ExclusionConstraint(
                name="period_tiles_without_overlap",
                expressions=[
                    ("tenant", RangeOperators.EQUAL),
                    ("customer_ref", RangeOperators.EQUAL),
                    ("span", RangeOperators.OVERLAPS),
                ],
            ),
            models.CheckConstraint(
                condition=Q(span__isempty=False) & Q(span__lower_inc=True, span__upper_inc=False),
                name="period_is_half_open",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["open", "closing", "frozen", "sealed"]),
                name="period_state_is_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.customer_ref or 'default'} {self.span}"


class Adjustment(models.Model):
    """A signed correcting entry on one counter; never edited, undone by a counter-entry."""

    class Status(models.TextChoices):
        """The life of an adjustment."""

        PENDING = "pending", "Waiting for approval"
        APPROVED = "approved", "Approved"
        REJECTED = "rejected", "Rejected"
        REVERTED = "reverted", "Reverted"
        #: The effect went into a later period: this one was frozen. Its child counts instead.
        CARRIED = "carried", "Carried forward"

    class Reason(models.TextChoices):
        """Why; the first five are what callers may give."""

        BACKFILL = "backfill", "Backfill"
        CORRECTION = "correction", "Correction"
        PROMO = "promo", "Promotion"
        CREDIT = "credit", "Credit"
        MANUAL = "manual", "Manual"
        LATE_EVENT = "late_event", "Late events"
        REVERSAL = "reversal", "Reversal"

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="adjustments")
    id = models.UUIDField(primary_key=True)
    metric = models.ForeignKey(Metric, models.PROTECT)
    customer_ref = models.TextField(db_collation="C")
    period_start = models.DateTimeField()
    #: The UTC day within the period that the delta belongs to (its push slice).
    day = models.DateField()
    delta = ExactNumeric()
    reason = models.CharField(max_length=12, choices=Reason.choices)
    note = models.CharField(max_length=1000, blank=True)
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.PENDING)
    #: Who asked for it, and the key of the request that did (unique: a retry finds it again).
    actor = models.CharField(max_length=200)
    request_id = models.CharField(max_length=255, null=True, blank=True)
    #: The batch whose late events this is the effect of.
    batch_id = models.BigIntegerField(null=True, blank=True)
    parent = models.ForeignKey("self", models.PROTECT, null=True, blank=True)
    created_at = models.DateTimeField()
    approved_at = models.DateTimeField(null=True, blank=True)
    approved_by = models.CharField(max_length=200, blank=True)
    rejected_at = models.DateTimeField(null=True, blank=True)
    rejected_by = models.CharField(max_length=200, blank=True)
    reverted_at = models.DateTimeField(null=True, blank=True)
    reverted_by = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "request_id"], name="adjustment_request_is_unique"
            ),
            models.UniqueConstraint(
                fields=["parent"],
                condition=Q(reason="reversal"),
                name="adjustment_reverted_at_most_once",
            ),
            # Late events of quantity zero have no effect, and are still in no counter.
            models.CheckConstraint(
                condition=Q(delta__gt=-(10**26), delta__lt=10**26)
                & (~Q(delta=0) | Q(reason="late_event")),
                name="adjustment_delta_is_finite_and_not_zero",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["pending", "approved", "rejected", "reverted", "carried"]),
                name="adjustment_status_is_known",
            ),
        ]
        # One adjustment per late event follows from the primary key of `LateEvent`.
        indexes: ClassVar = [
            models.Index(
                fields=["tenant", "metric", "customer_ref", "period_start"],
                name="adjustment_by_counter",
            ),
            models.Index(fields=["tenant", "status", "-created_at"], name="adjustment_inbox"),
        ]

    def __str__(self) -> str:
        return f"{self.delta} {self.reason}"


class LateEvent(models.Model):
    """Says that an event is in no counter: its effect is the adjustment named here."""

    pk = models.CompositePrimaryKey("tenant_id", "key")
    tenant_id = models.BigIntegerField()
    key = models.UUIDField()
    batch_id = models.BigIntegerField()
    adjustment = models.ForeignKey(Adjustment, models.PROTECT, related_name="late_events")

    def __str__(self) -> str:
        return f"{self.key}"


class Verification(models.Model):
    """One comparison of counters with the ledger, and how many differed."""

    finished_at = models.DateTimeField()
    differences = models.IntegerField()
    repaired = models.IntegerField(default=0)
    #: Counters that still differ, by tenant number; tenants without any are not named.
    left = models.JSONField(default=dict)
    #: False if only a sample or one tenant was compared.
    whole = models.BooleanField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["-finished_at"], name="verification_latest")]

    def __str__(self) -> str:
        return f"{self.differences} at {self.finished_at:%Y-%m-%d %H:%M}"
