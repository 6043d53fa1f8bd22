"""Prices as Stripe last showed them, every version kept.

``currency_options`` may change under one price id, and everything else may be archived:
what a past bill was computed with must stay readable.
"""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from billing.models.accounts import Mode


class PriceVersion(models.Model):
    """One state of a Stripe price, from when we saw it until we saw another."""

    account = models.CharField(max_length=70, db_collation="C")
    mode = models.CharField(max_length=4, choices=Mode.choices)
    price_id = models.CharField(max_length=70, db_collation="C")
    #: SHA-256 over what decides the amount; the same text is the same price.
    fingerprint = models.CharField(max_length=64, db_collation="C")
    #: Stripe's Price object with tiers and currency options.
    document = models.JSONField()
    seen_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(mode__in=["live", "test"]), name="price_version_mode_is_known"
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["account", "mode", "price_id", "-seen_at"], name="price_version_newest"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.price_id} as of {self.seen_at:%Y-%m-%d}"
