"""Webhooks out, email and Slack: an outbox written in the transaction of what it tells."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from stripemeter.tenancy.models import Tenant


class WebhookEndpoint(models.Model):
    """An address of the tenant's that wants to be told."""

    id = models.UUIDField(primary_key=True)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="webhook_endpoints")
    url = models.CharField(max_length=2_000)
    description = models.CharField(max_length=255, blank=True)
    #: Event types, or families such as ``alert.*``.
    event_types = ArrayField(models.CharField(max_length=80))
    enabled = models.BooleanField(default=True)
    #: The secret is derived from the server's key, the endpoint and this number; never stored.
    secret_version = models.PositiveIntegerField(default=1)
    #: Until then deliveries are also signed with the version before.
    previous_until = models.DateTimeField(null=True)
    disabled_at = models.DateTimeField(null=True)
    #: Why deliveries switched it off; empty when a person did.
    disabled_reason = models.CharField(max_length=255, blank=True)
    last_success_at = models.DateTimeField(null=True)
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    deleted_at = models.DateTimeField(null=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(
                fields=["tenant"],
                condition=Q(enabled=True, deleted_at__isnull=True),
                name="webhook_endpoint_in_force",
            ),
        ]

    def __str__(self) -> str:
        return self.url


class Delivery(models.Model):
    """One message to one receiver, until it has arrived or was given up."""

    class Channel(models.TextChoices):
        """How it travels."""

        WEBHOOK = "webhook", "Webhook"
        EMAIL = "email", "Email"
        SLACK = "slack", "Slack"

    class Status(models.TextChoices):
        """What became of it."""

        PENDING = "pending", "Waiting"
        DELIVERED = "delivered", "Delivered"
        FAILED = "failed", "Given up"
        CANCELLED = "cancelled", "Cancelled"

    id = models.UUIDField(primary_key=True)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="deliveries")
    endpoint = models.ForeignKey(
        WebhookEndpoint, models.PROTECT, null=True, related_name="deliveries"
    )
    channel = models.CharField(max_length=7, choices=Channel.choices)
    #: The message's own id: the same for every receiver and every try (``webhook-id``).
    message_id = models.CharField(max_length=64, db_collation="C")
    event_type = models.CharField(max_length=80)
    #: Addresses with commas, or the URL of Slack; empty for endpoints.
    target = models.CharField(max_length=2_000, blank=True)
    #: The body as it is sent: retries are byte for byte the same.
    body = models.TextField()
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField()
    #: A worker that took it has until then; later another may try.
    lease_until = models.DateTimeField(null=True)
    last_error = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField()
    delivered_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "deliveries"
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(channel__in=["webhook", "email", "slack"]),
                name="delivery_channel_is_known",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["pending", "delivered", "failed", "cancelled"]),
                name="delivery_status_is_known",
            ),
            models.CheckConstraint(
                condition=Q(endpoint__isnull=False) | ~Q(channel="webhook"),
                name="delivery_of_a_webhook_has_an_endpoint",
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["next_attempt_at"], condition=Q(status="pending"), name="delivery_due"
            ),
            models.Index(fields=["tenant", "-created_at"], name="delivery_list"),
            models.Index(fields=["endpoint", "-created_at"], name="delivery_by_endpoint"),
        ]

    def __str__(self) -> str:
        return f"{self.event_type} {self.message_id}"


class DeliveryAttempt(models.Model):
    """One try of a delivery, and what the receiver said."""

    delivery = models.ForeignKey(Delivery, models.CASCADE, related_name="tries")
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="+")
    number = models.PositiveSmallIntegerField()
    started_at = models.DateTimeField()
    duration_ms = models.PositiveIntegerField(default=0)
    http_status = models.PositiveSmallIntegerField(null=True)
    error = models.CharField(max_length=500, blank=True)
    #: The first kilobyte of the answer.
    answer = models.CharField(max_length=1_024, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["delivery", "number"], name="delivery_attempt_number_is_unique"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.delivery_id} try {self.number}"
