"""How a metric becomes a line of a Stripe invoice."""

from typing import Any, ClassVar

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import DateTimeRangeField, RangeOperators
from django.db import models
from django.db.models import F, Func, Q

from ledger.models import ExactNumeric, Metric
from stripemeter.tenancy.models import Tenant


class _Segment(Func):
    """``tstzrange(effective_from, effective_to)``: half-open, open-ended where null."""

    function = "TSTZRANGE"
    output_field: Any = DateTimeRangeField()


class PriceMapping(models.Model):
    """One metric of a tenant, billed by one price over one segment of time.

    Rows are never deleted: a mapping that ends gets ``effective_to`` and ``active=False``,
    its pushes stay explained by it.
    """

    class Aggregation(models.TextChoices):
        """Which number of a counter is billed."""

        SUM = "sum", "Sum"
        COUNT = "count", "Count"
        MAX = "max", "Maximum"
        MIN = "min", "Minimum"
        LAST = "last", "Last"
        UNIQUE = "unique", "Unique"

    class Semantics(models.TextChoices):
        """What one push says; the meter's formula decides (docs of `billing.formulas`)."""

        INCREMENT = "increment", "Signed increments into a sum meter"
        LEVEL = "level", "Absolute levels into a last meter"
        EVENT_COUNT = "event_count", "One event per unit into a count meter"
        WINDOW_TOTAL = "window_total", "Running totals into a sum meter with a daily window"
        HOUR_TOTAL = "hour_total", "Running totals into a sum meter with an hourly window"
        USAGE_RECORD = "usage_record", "Legacy usage records, set per day"

    id = models.UUIDField(primary_key=True)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="price_mappings")
    metric = models.ForeignKey(Metric, models.PROTECT, related_name="price_mappings")
    aggregation = models.CharField(max_length=6, choices=Aggregation.choices)
    stripe_account = models.CharField(max_length=70)
    price_id = models.CharField(max_length=70)
    subscription_item_id = models.CharField(max_length=70, null=True, blank=True)
    currency = models.CharField(max_length=3, null=True, blank=True)
    active = models.BooleanField(default=True)
    shadow = models.BooleanField(default=False)
    shadow_stripe_account = models.CharField(max_length=70, null=True, blank=True)
    shadow_price_id = models.CharField(max_length=70, null=True, blank=True)
    shadow_subscription_item_id = models.CharField(max_length=70, null=True, blank=True)
    #: Event name of the meter; null takes the metric's name.
    stripe_meter_event_name = models.CharField(max_length=100, null=True, blank=True)
    push_semantics = models.CharField(
        max_length=12, choices=Semantics.choices, default=Semantics.INCREMENT
    )
    #: In force over [from, to), both midnights UTC because pushes are cut by UTC day.
    effective_from = models.DateTimeField(null=True, blank=True)
    effective_to = models.DateTimeField(null=True, blank=True)
    #: Units of the metric in one unit at Stripe, and decimals of a value sent there.
    unit_factor = ExactNumeric(default=1)
    value_decimals = models.PositiveSmallIntegerField(default=12)
    #: Price for projections while Stripe's is not mirrored: a PriceConfig document.
    local_price = models.JSONField(null=True, blank=True)
    #: A promotion of the shadow side that somebody asked for and nobody approved yet.
    cutover = models.JSONField(null=True, blank=True)
    version = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            ExclusionConstraint(
                name="mapping_one_active_per_metric",
                expressions=[
                    (F("tenant"), RangeOperators.EQUAL),
                    (F("metric"), RangeOperators.EQUAL),
                    (_Segment(F("effective_from"), F("effective_to")), RangeOperators.OVERLAPS),
                ],
                condition=Q(active=True),
            ),
            models.CheckConstraint(
                condition=Q(effective_to__isnull=True)
                | Q(effective_from__isnull=True)
                | Q(effective_to__gt=F("effective_from")),
                name="mapping_segment_is_not_empty",
            ),
            models.CheckConstraint(
                condition=Q(aggregation__in=["sum", "count", "max", "min", "last", "unique"]),
                name="mapping_aggregation_is_known",
            ),
            models.CheckConstraint(
                condition=Q(
                    push_semantics__in=[
                        "increment",
                        "level",
                        "event_count",
                        "window_total",
                        "hour_total",
                        "usage_record",
                    ]
                ),
                name="mapping_semantics_is_known",
            ),
            models.CheckConstraint(
                condition=Q(unit_factor__gt=0, unit_factor__lt=10**12) & Q(value_decimals__lte=12),
                name="mapping_unit_factor_in_range",
            ),
            models.CheckConstraint(
                condition=Q(shadow=False)
                | Q(shadow_stripe_account__isnull=False, shadow_price_id__isnull=False),
                name="mapping_shadow_has_a_target",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "metric"], name="mapping_by_metric"),
        ]

    def __str__(self) -> str:
        return f"{self.metric_id} to {self.price_id}"
