"""Closed periods and their certificates."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from stripemeter.tenancy.models import Tenant


class PeriodClose(models.Model):
    """A period of a tenant that was closed on purpose, with the proof of what it held."""

    class State(models.TextChoices):
        """Closing waits for the invoices; sealed has a certificate."""

        CLOSING = "closing", "Closing"
        SEALED = "sealed", "Sealed"

    id = models.UUIDField(primary_key=True)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="period_closes")
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    state = models.CharField(max_length=7, choices=State.choices, default=State.CLOSING)
    run_id = models.UUIDField(null=True, blank=True)
    #: What the board showed at the moment of closing.
    board = models.JSONField(default=dict)
    closed_by = models.CharField(max_length=200)
    closed_at = models.DateTimeField()
    sealed_by = models.CharField(max_length=200, blank=True)
    sealed_at = models.DateTimeField(null=True, blank=True)
    note = models.CharField(max_length=1000, blank=True)
    certificate = models.JSONField(null=True, blank=True)
    #: SHA-256 of the canonical certificate, and its HMAC under the server's key.
    certificate_sha256 = models.CharField(max_length=64, blank=True)
    signature = models.CharField(max_length=64, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "period_start", "period_end"], name="period_closed_once"
            ),
            models.CheckConstraint(
                condition=Q(state__in=["closing", "sealed"]), name="period_close_state_is_known"
            ),
            models.CheckConstraint(
                condition=Q(period_end__gt=models.F("period_start")),
                name="period_close_is_not_empty",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.period_start:%Y-%m-%d} {self.state}"
