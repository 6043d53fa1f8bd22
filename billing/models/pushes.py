"""Cursors and pushes: what was meant to reach Stripe, and what became of it."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from billing.models.accounts import Mode, StripeAccount
from ledger.models import ExactNumeric

#: Not settled yet, and the machine will go on with it by itself.
OPEN_STATES = ("pending", "sending", "retry", "unknown")
#: Whatever is not rejected counts as intended: its value may stand at Stripe.
REJECTED = "rejected"


class PushCursor(models.Model):
    """How far one counter has been pushed under one mapping in one mode."""

    pk = models.CompositePrimaryKey(
        "tenant_id", "mapping_id", "customer_ref", "period_start", "mode"
    )
    tenant_id = models.BigIntegerField()
    mapping_id = models.UUIDField()
    customer_ref = models.TextField(db_collation="C")
    period_start = models.DateTimeField()
    mode = models.CharField(max_length=4, choices=Mode.choices)
    period_end = models.DateTimeField()
    #: Revision of the counter at the last planning; a larger one means there is work.
    seen_revision = models.BigIntegerField(default=-1)
    #: Names the next push; never reused, so no identifier is minted twice.
    next_sequence = models.BigIntegerField(default=1)
    #: Planning stops here until an operator releases it.
    held_at = models.DateTimeField(null=True)
    held_reason = models.CharField(max_length=500, blank=True)
    #: Asynchronous rejections so far, and when planning may try again after one.
    rejections = models.PositiveSmallIntegerField(default=0)
    not_before = models.DateTimeField(null=True)
    #: The account's generation when Stripe was last read for it (`billing.services.gate`).
    generation = models.BigIntegerField(default=0, db_default=0)
    #: When operators were told that the period's grace is half over and units are unpushed.
    grace_alerted_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(mode__in=["live", "test"]), name="push_cursor_mode_is_known"
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["tenant_id", "held_at"],
                condition=Q(held_at__isnull=False),
                name="push_cursor_held",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.customer_ref} {self.period_start:%Y-%m-%d} {self.mode}"


class PushSlice(models.Model):
    """What all pushes of one cursor and UTC day intend: acknowledged and open together.

    Moved by increments in the transaction that writes or rejects a push, so it always
    equals the sum over `Push` (`selectors.slices_that_disagree` checks); it spares
    planning from adding up a month of pushes for every delta.
    """

    pk = models.CompositePrimaryKey(
        "tenant_id", "mapping_id", "customer_ref", "period_start", "mode", "day"
    )
    tenant_id = models.BigIntegerField()
    mapping_id = models.UUIDField()
    customer_ref = models.TextField(db_collation="C")
    period_start = models.DateTimeField()
    mode = models.CharField(max_length=4, choices=Mode.choices)
    day = models.DateField()
    intended = ExactNumeric(default=0)

    def __str__(self) -> str:
        return f"{self.customer_ref} {self.day} {self.mode}"


class Push(models.Model):
    """The intent to tell Stripe one value, committed before the first byte is sent."""

    class State(models.TextChoices):
        """What became of the intent."""

        PENDING = "pending", "Waiting for its turn"
        SENDING = "sending", "Under way"
        RETRY = "retry", "To be sent again, same identifier"
        UNKNOWN = "unknown", "Outcome unknown, summaries decide"
        ACKNOWLEDGED = "acknowledged", "Acknowledged"
        NEEDS_REVIEW = "needs_review", "An operator decides"
        PARKED = "parked", "Refused by Stripe, waiting for an operator"
        REJECTED = "rejected", "Not at Stripe"

    pk = models.CompositePrimaryKey("tenant_id", "id")
    tenant_id = models.BigIntegerField()
    id = models.UUIDField()
    mapping_id = models.UUIDField()
    customer_ref = models.TextField(db_collation="C")
    period_start = models.DateTimeField()
    mode = models.CharField(max_length=4, choices=Mode.choices)
    #: The UTC day whose usage this is, and the number within the cursor.
    slice_day = models.DateField()
    sequence = models.BigIntegerField()
    account = models.ForeignKey(StripeAccount, models.PROTECT)
    semantics = models.CharField(max_length=12)
    #: The meter's event name, or the subscription item of a legacy record.
    target = models.CharField(max_length=100, db_collation="C")
    stripe_customer_id = models.CharField(max_length=70, db_collation="C")
    identifier = models.CharField(max_length=100, db_collation="C")
    #: What is sent, and by how much it moves the pushed total, in Stripe's units.
    value = ExactNumeric()
    delta = ExactNumeric()
    #: Units of the metric left over after this push because they make no whole step.
    carry = ExactNumeric(default=0)
    stamped_at = models.DateTimeField()
    #: Stamped on another day of its period because Stripe takes no older timestamp.
    displaced = models.BooleanField(default=False)

    state = models.CharField(max_length=12, choices=State.choices, default=State.PENDING)
    #: Fencing token: grows with every claim; an outcome is taken only under the newest.
    token = models.BigIntegerField(default=0)
    lease_until = models.DateTimeField(null=True)
    not_before = models.DateTimeField()
    attempts = models.PositiveIntegerField(default=0)
    #: Some attempt may have reached Stripe without our learning its outcome.
    indeterminate = models.BooleanField(default=False)
    #: Counts HTTP Idempotency-Keys of this identifier; grows after a stored 500.
    http_key = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()
    first_attempt_at = models.DateTimeField(null=True)
    settled_at = models.DateTimeField(null=True)
    stripe_request_id = models.CharField(max_length=100, blank=True)
    error_code = models.CharField(max_length=100, blank=True)
    error_message = models.CharField(max_length=500, blank=True)
    evidence = models.JSONField(null=True)

    class Meta:
        verbose_name_plural = "pushes"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant_id", "identifier"], name="push_identifier_is_unique"
            ),
            models.UniqueConstraint(
                fields=[
                    "tenant_id",
                    "mapping_id",
                    "customer_ref",
                    "period_start",
                    "mode",
                    "sequence",
                ],
                name="push_sequence_is_unique",
            ),
            models.UniqueConstraint(
                fields=[
                    "tenant_id",
                    "mapping_id",
                    "customer_ref",
                    "period_start",
                    "mode",
                    "slice_day",
                ],
                condition=Q(state__in=OPEN_STATES) & ~Q(semantics="event_count"),
                name="push_one_open_per_slice",
            ),
            models.UniqueConstraint(
                fields=["account", "target", "stripe_customer_id"],
                condition=Q(state="sending"),
                name="push_one_in_flight_per_lane",
            ),
            models.CheckConstraint(
                condition=Q(
                    state__in=[
                        "pending",
                        "sending",
                        "retry",
                        "unknown",
                        "acknowledged",
                        "needs_review",
                        "parked",
                        "rejected",
                    ]
                ),
                name="push_state_is_known",
            ),
            models.CheckConstraint(
                condition=Q(delta__gt=-(10**15), delta__lt=10**15) & ~Q(delta=0),
                name="push_delta_is_finite_and_not_zero",
            ),
            models.CheckConstraint(
                condition=Q(value__gt=-(10**15), value__lt=10**15),
                name="push_value_has_at_most_15_digits",
            ),
            models.CheckConstraint(
                condition=Q(state="sending", lease_until__isnull=False) | ~Q(state="sending"),
                name="push_sending_has_a_lease",
            ),
            models.CheckConstraint(
                condition=Q(mode__in=["live", "test"]), name="push_mode_is_known"
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["account", "not_before"],
                condition=Q(state__in=["pending", "retry"]),
                name="push_due",
            ),
            models.Index(fields=["lease_until"], condition=Q(state="sending"), name="push_leased"),
            models.Index(
                fields=["tenant_id", "state", "-created_at"],
                condition=~Q(state="acknowledged"),
                name="push_unsettled",
            ),
            # Lanes are read by day when an outcome is settled or a backup was restored.
            models.Index(
                fields=["account", "target", "stripe_customer_id", "stamped_at"],
                condition=Q(state="acknowledged"),
                name="push_acknowledged_by_lane",
            ),
        ]

    def __str__(self) -> str:
        return self.identifier


class PushAttempt(models.Model):
    """One try to deliver a push and how it ended."""

    pk = models.CompositePrimaryKey("tenant_id", "push_id", "token")
    tenant_id = models.BigIntegerField()
    push_id = models.UUIDField()
    token = models.BigIntegerField()
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    outcome = models.CharField(max_length=16)
    http_status = models.PositiveSmallIntegerField(null=True)
    code = models.CharField(max_length=100, blank=True)
    message = models.CharField(max_length=500, blank=True)
    stripe_request_id = models.CharField(max_length=100, blank=True)
    #: False if a newer claim had taken the push over before this try ended.
    applied = models.BooleanField(default=True)

    def __str__(self) -> str:
        return f"{self.push_id} #{self.token}"
