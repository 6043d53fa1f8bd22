"""What Stripe told us, as it was received."""

from typing import ClassVar

from django.db import models
from django.db.models import Q


class WebhookInbox(models.Model):
    """One event of Stripe, stored before it is answered, processed at most once with effect."""

    class Kind(models.TextChoices):
        """How much the body says."""

        SNAPSHOT = "snapshot", "Snapshot of the object"
        THIN = "thin", "Thin: details are fetched"

    class Status(models.TextChoices):
        """What became of it."""

        RECEIVED = "received", "Waiting"
        PROCESSED = "processed", "Processed"
        IGNORED = "ignored", "Nothing to do"
        UNMATCHED = "unmatched", "Unknown account or mode"
        PARKED = "parked", "Failed too often"

    event_id = models.CharField(max_length=255, db_collation="C")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    type = models.CharField(max_length=120)
    account = models.CharField(max_length=70, blank=True)
    livemode = models.BooleanField(null=True)
    created_at = models.DateTimeField(null=True)
    received_at = models.DateTimeField()
    #: The body, byte for byte, and its SHA-256.
    body = models.BinaryField()
    digest = models.BinaryField(max_length=32)
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.RECEIVED)
    attempts = models.PositiveSmallIntegerField(default=0)
    not_before = models.DateTimeField()
    processed_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=500, blank=True)
    #: The same id arrived with another body: the first one counts, this says how often.
    mismatches = models.PositiveIntegerField(default=0)
    deliveries = models.PositiveIntegerField(default=1)

    class Meta:
        verbose_name_plural = "webhook inbox"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["event_id"], name="webhook_event_is_stored_once"),
            models.CheckConstraint(
                condition=Q(status__in=["received", "processed", "ignored", "unmatched", "parked"]),
                name="webhook_status_is_known",
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["not_before"], condition=Q(status="received"), name="webhook_waiting"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.event_id}"
