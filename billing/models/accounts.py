"""Stripe accounts as this service sees them, and whom our customers are there."""

from typing import ClassVar
from uuid import uuid4

from django.contrib.postgres.functions import RandomUUID
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from stripemeter.tenancy.models import Tenant

#: The account that the configured secret key itself belongs to (no Stripe-Account header).
DEFAULT_ACCOUNT = "default"
STRIPE_ID = r"^(acct|price|si|cus|mtr|in|sub)_[A-Za-z0-9]{1,64}$"


class Mode(models.TextChoices):
    """Which side of Stripe: real money, or the test account of shadow mode."""

    LIVE = "live", "Live"
    TEST = "test", "Test"


class StripeAccount(models.Model):
    """One account in one mode: may it be pushed to, how fast, and is it well?

    Shared by every tenant that maps to it unless ``owner`` binds it to one.
    """

    account = models.CharField(max_length=70, db_collation="C", default=DEFAULT_ACCOUNT)
    mode = models.CharField(max_length=4, choices=Mode.choices)
    owner = models.ForeignKey(Tenant, models.PROTECT, null=True, blank=True)
    #: Set by 401, 403 or an object of the wrong mode; nothing is sent until an operator resumes.
    halted_at = models.DateTimeField(null=True, blank=True)
    halted_reason = models.CharField(max_length=500, blank=True)
    #: The first object Stripe answered with had the right ``livemode``.
    livemode_checked_at = models.DateTimeField(null=True, blank=True)
    #: Circuit breaker: failures in a row, and until when nothing is sent.
    failures = models.PositiveIntegerField(default=0)
    open_until = models.DateTimeField(null=True, blank=True)
    #: Token bucket: what may be sent at once, as of ``tokens_at``.
    tokens = models.FloatField(default=0)
    tokens_at = models.DateTimeField(null=True, blank=True)
    #: Calls per second; null takes the setting of the mode.
    rate_per_second = models.PositiveIntegerField(null=True, blank=True)
    #: How far the poll for events that no webhook brought has read.
    events_polled_to = models.DateTimeField(null=True, blank=True)
    #: Names this row's high-water mark outside the database (`billing.services.anchors`).
    anchor = models.UUIDField(default=uuid4, db_default=RandomUUID(), editable=False)
    #: Grows with every claim, before its first call: a mark above it means a restored backup.
    epoch = models.BigIntegerField(default=0, db_default=0)
    #: The database server and database that the row was last used in.
    born_in = models.CharField(max_length=100, blank=True, db_default="")
    #: Set when the database turned out to be a restored one: nothing is sent.
    gate_closed_at = models.DateTimeField(null=True, blank=True)
    gate_reason = models.CharField(max_length=500, blank=True, db_default="")
    #: When the gate was last closed, and how often: cursors of an older generation are read
    #: back from Stripe before they are planned.
    restored_at = models.DateTimeField(null=True, blank=True)
    generation = models.BigIntegerField(default=0, db_default=0)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "mode"], name="stripe_account_is_unique"),
            models.CheckConstraint(
                condition=Q(mode__in=["live", "test"]), name="stripe_account_mode_is_known"
            ),
            models.CheckConstraint(
                condition=Q(account="default") | Q(account__regex=r"^acct_[A-Za-z0-9]{1,64}$"),
                name="stripe_account_id_is_plain",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.account} ({self.mode})"


class CustomerLink(models.Model):
    """Says that a customer reference of a tenant is this customer at Stripe.

    A reference that is itself a ``cus_…`` id needs no link in live mode.
    """

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="customer_links")
    customer_ref = models.CharField(max_length=255, db_collation="C")
    mode = models.CharField(max_length=4, choices=Mode.choices, default=Mode.LIVE)
    stripe_customer_id = models.CharField(max_length=70, db_collation="C")
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=200)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "customer_ref", "mode"], name="customer_link_one_per_mode"
            ),
            # Meters add up per Stripe customer: two references on one would bill as one.
            models.UniqueConstraint(
                fields=["tenant", "mode", "stripe_customer_id"],
                name="customer_link_target_is_unique",
            ),
            models.CheckConstraint(
                condition=Q(stripe_customer_id__regex=r"^cus_[A-Za-z0-9]{1,64}$"),
                name="customer_link_id_is_plain",
            ),
            models.CheckConstraint(
                condition=Q(mode__in=["live", "test"]), name="customer_link_mode_is_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.customer_ref} is {self.stripe_customer_id}"
