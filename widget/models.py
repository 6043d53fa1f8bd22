"""What the customer sees, and for how long: widget sessions."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from stripemeter.tenancy.models import ApiKey, Tenant


class WidgetSession(models.Model):
    """A short-lived permission for one customer's page, in frames of named origins.

    The token carries the same facts, signed; the row is what makes it revocable. It also ends
    when the API key that minted it is revoked or expires.
    """

    id = models.UUIDField(primary_key=True)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="widget_sessions")
    customer_ref = models.TextField(db_collation="C")
    origins = ArrayField(models.CharField(max_length=255))
    #: Names of the metrics shown; null shows all.
    metrics = ArrayField(models.CharField(max_length=100), null=True, blank=True)
    api_key = models.ForeignKey(ApiKey, models.PROTECT, null=True, blank=True)
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("created_at")), name="widget_session_has_a_life"
            ),
            models.CheckConstraint(
                condition=Q(origins__len__gte=1, origins__len__lte=10),
                name="widget_session_names_its_origins",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "-created_at"], name="widget_session_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.customer_ref} until {self.expires_at:%H:%M}"
