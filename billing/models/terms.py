"""What a tenant has agreed with a customer beside prices: credits, commitments, discounts, tax."""

from typing import ClassVar

from django.db import models

from stripemeter.tenancy.models import Tenant


class CustomerTerms(models.Model):
    """The terms of one customer, or of every customer that has none (`customer_ref` null).

    They make projections say what the invoice will; what Stripe bills is agreed at Stripe.
    """

    id = models.UUIDField(primary_key=True)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="customer_terms")
    customer_ref = models.TextField(null=True, db_collation="C")
    #: Terms as the simulator reads them, amounts in major units.
    document = models.JSONField()
    updated_by = models.CharField(max_length=200)
    updated_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "customer terms"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "customer_ref"],
                name="terms_one_per_customer",
                nulls_distinct=False,
            ),
        ]

    def __str__(self) -> str:
        return self.customer_ref or "default"
