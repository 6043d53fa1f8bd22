"""Who may do what: tenants, operators' memberships, API keys and the audit trail."""

from datetime import datetime
from typing import ClassVar

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from stripemeter.lib.text import TENANT_KEY


class Tenant(models.Model):
    """A business that meters. ``key`` is its id on the wire (a slug or a UUID)."""

    key = models.CharField(max_length=63, db_collation="C")
    name = models.CharField(max_length=200)
    lateness_window_hours = models.PositiveIntegerField(default=48)

    class LatePolicy(models.TextChoices):
        """What happens to a late event in an open period."""

        AUTO = "auto", "Counted at once"
        REVIEW = "review", "Held for an operator"

    late_policy = models.CharField(
        max_length=10, choices=LatePolicy.choices, default=LatePolicy.AUTO
    )
    #: Set when this tenant or one of its customers has a billing calendar of its own:
    #: only then does the fold look periods up.
    has_calendars = models.BooleanField(default=False)
    #: True if the tenant has one operator and says that approvals by the requester are fine.
    single_operator = models.BooleanField(default=False)
    #: Adjustments larger than this (absolute, in the metric's unit) need an owner.
    adjustment_cap = models.DecimalField(max_digits=38, decimal_places=12, null=True, blank=True)
    #: Share of the larger total above which a difference is called critical; it hides nothing.
    epsilon = models.DecimalField(max_digits=9, decimal_places=8, default="0.005")
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["key"], name="tenant_key_is_unique"),
            models.CheckConstraint(
                condition=Q(key__regex=f"^{TENANT_KEY.pattern}$"), name="tenant_key_is_slug_or_uuid"
            ),
            models.CheckConstraint(
                condition=Q(late_policy__in=["auto", "review"]), name="tenant_late_policy_is_known"
            ),
            models.CheckConstraint(
                condition=Q(epsilon__gte=0, epsilon__lte=1), name="tenant_epsilon_is_a_share"
            ),
        ]

    def __str__(self) -> str:
        return self.key


class Membership(models.Model):
    """An operator's role in a tenant."""

    class Role(models.TextChoices):
        """Each role may do what the one before it may, and more."""

        VIEWER = "viewer", "Viewer"
        MAINTAINER = "maintainer", "Maintainer"
        OWNER = "owner", "Owner"

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.VIEWER)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "user"], name="membership_once_per_tenant"),
            models.CheckConstraint(
                condition=Q(role__in=["viewer", "maintainer", "owner"]),
                name="membership_role_is_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.tenant}"


class ApiKey(models.Model):
    """A service's credential: shown once, stored as an HMAC, scoped, expiring, revocable."""

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="api_keys")
    name = models.CharField(max_length=200)
    #: The public part of the key, by which it is looked up.
    lookup = models.CharField(max_length=24, db_collation="C")
    #: Whether the key starts with sm_live_ (else sm_test_); a successor keeps it.
    is_live = models.BooleanField(default=True)
    #: HMAC-SHA256 of the whole key under the server's pepper.
    digest = models.BinaryField(max_length=32, editable=False)
    scopes = ArrayField(models.CharField(max_length=40))
    created_by = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    #: The key that this one replaced by rotation.
    rotated_from = models.ForeignKey("self", models.PROTECT, null=True, blank=True)

    class Meta:
        verbose_name = "API key"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["lookup"], name="api_key_lookup_is_unique"),
        ]
        indexes: ClassVar = [models.Index(fields=["tenant", "-id"], name="api_key_by_tenant")]

    def __str__(self) -> str:
        return f"{self.name} ({self.lookup})"

    @property
    def prefix(self) -> str:
        """The public start of the key, by which people recognise it."""
        return f"{'sm_live_' if self.is_live else 'sm_test_'}{self.lookup}"

    def status(self, now: datetime) -> str:
        """``active``, ``expired`` or ``revoked`` at ``now``."""
        if self.revoked_at is not None:
            return "revoked"
        expired = self.expires_at is not None and self.expires_at <= now
        return "expired" if expired else "active"


class AuditEntry(models.Model):
    """One write by a person or a key: who, what, before and after, chained by hash.

    Rows are only ever added; a trigger refuses changes.
    """

    tenant = models.ForeignKey(Tenant, models.PROTECT, null=True, related_name="audit_entries")
    #: Position in the tenant's chain, from 1 without gaps.
    sequence = models.BigIntegerField()
    recorded_at = models.DateTimeField()
    actor = models.CharField(max_length=200)
    action = models.CharField(max_length=80)
    object_type = models.CharField(max_length=80)
    object_id = models.CharField(max_length=200)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    request_id = models.CharField(max_length=64, blank=True)
    address = models.CharField(max_length=64, blank=True)
    previous_hash = models.BinaryField(max_length=32)
    hash = models.BinaryField(max_length=32)

    class Meta:
        verbose_name_plural = "audit entries"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "sequence"],
                name="audit_sequence_is_unique",
                nulls_distinct=False,
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "object_type", "object_id"], name="audit_by_object"),
        ]

    def __str__(self) -> str:
        return f"{self.action} by {self.actor}"
